//! What a launch, a rebuild or a resize can choose from.

use futures::try_join;
use serde::Deserialize;

use super::quota::{self, Absolute, Size};
use crate::{
    api::{Service, encoded},
    failure::Result,
    show,
    visit::Visit,
};

#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    #[serde(default)]
    pub min_ram: i64,
    /// GiB.
    #[serde(default)]
    pub min_disk: i64,
    pub virtual_size: Option<i64>,
    pub size: Option<i64>,
    pub image_type: Option<String>,
}

impl Image {
    #[must_use]
    pub fn label(&self) -> String {
        let name = self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id);
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let size = self.size.map(|size| format!(" · {}", show::bytes(size as f64))).unwrap_or_default();
        let kind = self.image_type.as_deref().map(|kind| format!(" · {kind}")).unwrap_or_default();
        format!("{name}{size}{kind}")
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }
}

#[derive(Deserialize)]
struct Images {
    images: Vec<Image>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    pub vcpus: i64,
    /// MiB.
    pub ram: i64,
    /// GiB.
    pub disk: i64,
}

impl Flavor {
    #[must_use]
    pub fn label(&self) -> String {
        let Self { name, vcpus, ram, disk, .. } = self;
        format!("{name} · {vcpus} VCPU · {} · {disk} GiB", show::mib(*ram))
    }

    #[must_use]
    pub fn size(&self) -> Size {
        Size { vcpus: self.vcpus, ram_mib: self.ram }
    }
}

#[derive(Deserialize)]
struct Flavors {
    flavors: Vec<Flavor>,
}

#[derive(Deserialize)]
struct Keypairs {
    keypairs: Vec<Wrapped>,
}

#[derive(Deserialize)]
struct Wrapped {
    keypair: Keypair,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Keypair {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Network {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub shared: bool,
    #[serde(default, rename = "router:external")]
    pub external: bool,
    #[serde(default)]
    pub subnets: Vec<String>,
    #[serde(default)]
    pub project_id: String,
}

impl Network {
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

#[derive(Deserialize)]
struct Networks {
    networks: Vec<Network>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FixedIp {
    pub ip_address: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Port {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub security_groups: Vec<String>,
}

impl Port {
    #[must_use]
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { show::short(&self.id) } else { &self.name };
        let addresses: Vec<&str> = self.fixed_ips.iter().map(|fixed| fixed.ip_address.as_str()).collect();
        format!("{name} ({})", addresses.join(", "))
    }
}

#[derive(Deserialize)]
struct Ports {
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SecurityGroup {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
}

#[derive(Deserialize)]
struct SecurityGroups {
    security_groups: Vec<SecurityGroup>,
}

#[derive(Deserialize)]
struct Zones {
    #[serde(rename = "availabilityZoneInfo")]
    zones: Vec<Zone>,
}

#[derive(Clone, Debug, Deserialize)]
struct Zone {
    #[serde(rename = "zoneName")]
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub policy: String,
}

#[derive(Deserialize)]
struct Groups {
    server_groups: Vec<Group>,
}

/// Everything that the launch form offers.
pub struct Choices {
    pub images: Vec<Image>,
    pub flavors: Vec<Flavor>,
    pub keypairs: Vec<Keypair>,
    pub networks: Vec<Network>,
    pub ports: Vec<Port>,
    pub security_groups: Vec<SecurityGroup>,
    pub zones: Vec<String>,
    pub groups: Vec<Group>,
    pub limits: Absolute,
}

/// Images that a server can start from.
///
/// # Errors
/// What Images says.
pub async fn images(visit: &Visit) -> Result<Vec<Image>> {
    let path = "/images?status=active&limit=1000&sort_key=name&sort_dir=asc";
    Ok(visit.api.get::<Images>(Service::Images, path).await?.images)
}

/// Flavors, the smallest first.
///
/// # Errors
/// What Compute says.
pub async fn flavors(visit: &Visit) -> Result<Vec<Flavor>> {
    let path = "/flavors/detail?sort_key=memory_mb&limit=1000";
    Ok(visit.api.get::<Flavors>(Service::Compute, path).await?.flavors)
}

/// Networks that a server can be in: of the project, or shared.
///
/// # Errors
/// What Network says.
pub async fn networks(visit: &Visit) -> Result<Vec<Network>> {
    let project = visit.session()?.project_id().unwrap_or_default().to_owned();
    let found = visit.api.get::<Networks>(Service::Network, "/networks?limit=1000&sort_key=name&sort_dir=asc").await?;
    let usable = |network: &Network| network.project_id == project || network.shared;
    Ok(found.networks.into_iter().filter(usable).filter(|network| !network.subnets.is_empty()).collect())
}

/// Networks that floating IPs come from.
///
/// # Errors
/// What Network says.
pub async fn external_networks(visit: &Visit) -> Result<Vec<Network>> {
    let path = "/networks?router:external=true&limit=100";
    Ok(visit.api.get::<Networks>(Service::Network, path).await?.networks)
}

/// Ports of the project that nothing uses.
///
/// # Errors
/// What Network says.
pub async fn free_ports(visit: &Visit) -> Result<Vec<Port>> {
    let project = encoded(visit.session()?.project_id().unwrap_or_default());
    let path = format!("/ports?project_id={project}&device_id=&device_owner=&limit=1000");
    Ok(visit.api.get::<Ports>(Service::Network, &path).await?.ports)
}

/// Ports of a server.
///
/// # Errors
/// What Network says.
pub async fn ports_of(visit: &Visit, server_id: &str) -> Result<Vec<Port>> {
    let path = format!("/ports?device_id={}", encoded(server_id));
    Ok(visit.api.get::<Ports>(Service::Network, &path).await?.ports)
}

/// Security groups of a project.
///
/// # Errors
/// What Network says.
pub async fn security_groups(visit: &Visit, project_id: &str) -> Result<Vec<SecurityGroup>> {
    let path = format!("/security-groups?project_id={}&limit=1000", encoded(project_id));
    Ok(visit.api.get::<SecurityGroups>(Service::Network, &path).await?.security_groups)
}

async fn keypairs(visit: &Visit) -> Result<Vec<Keypair>> {
    let found = visit.api.get::<Keypairs>(Service::Compute, "/os-keypairs").await?;
    Ok(found.keypairs.into_iter().map(|wrapped| wrapped.keypair).collect())
}

impl Choices {
    /// # Errors
    /// What the services say.
    pub async fn of(visit: &Visit) -> Result<Self> {
        let project = visit.session()?.project_id().unwrap_or_default().to_owned();
        let (images, flavors, keypairs, networks, ports, security_groups, zones, groups, limits) = try_join!(
            images(visit),
            flavors(visit),
            keypairs(visit),
            networks(visit),
            free_ports(visit),
            security_groups(visit, &project),
            visit.api.get::<Zones>(Service::Compute, "/os-availability-zone"),
            visit.api.get::<Groups>(Service::Compute, "/os-server-groups"),
            quota::limits(&visit.api),
        )?;
        Ok(Self {
            images,
            flavors,
            keypairs,
            networks,
            ports,
            security_groups,
            zones: zones.zones.into_iter().map(|zone| zone.name).collect(),
            groups: groups.server_groups,
            limits,
        })
    }

    #[must_use]
    pub fn image(&self, id: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.id == id)
    }

    #[must_use]
    pub fn flavor(&self, id: &str) -> Option<&Flavor> {
        self.flavors.iter().find(|flavor| flavor.id == id)
    }
}
