//! Making a server: the rows in one transaction, then the durable operation.

use rest::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{Failure, NewTask, Operation, Record, Step, TaskContext};

use super::{
    Server, cpus, disk,
    model::{self, Fault, PowerState, VmState},
    personality,
    request::{Wanted, WantedNetworks},
    run, store,
};
use crate::{
    App, allocation,
    flavors::{Flavor, extra_specs::Tuning},
    image_info::BootImage,
    keypairs::Keypair,
    limits,
    network_info::{self, PortRequest},
    server_groups::{self, Group},
};

/// Who asks, for rows and logs.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub user_id: String,
    pub project_id: Option<String>,
    pub admin: bool,
}

impl Asker {
    pub fn of(ctx: &Ctx) -> Result<Self> {
        let creds = ctx.creds()?;
        Ok(Self {
            user_id: creds.user.id.clone(),
            project_id: creds.project_id().map(str::to_owned),
            admin: creds.has_role("admin"),
        })
    }

    pub fn task<'a>(&'a self, server_id: &'a str, action: &'a str, request_id: &'a str, now: &'a str) -> NewTask<'a> {
        NewTask {
            resource: server_id,
            action,
            request_id,
            user_id: Some(&self.user_id),
            project_id: self.project_id.as_deref(),
            now,
        }
    }
}

/// An operation that nobody asked for: the cloud's own.
pub(crate) fn unasked<'a>(server: &'a Server, action: &'a str, request_id: &'a str, now: &'a str) -> NewTask<'a> {
    NewTask { resource: &server.id, action, request_id, user_id: None, project_id: Some(&server.project_id), now }
}

/// What the request named, looked up.
#[derive(Debug)]
pub(crate) struct Plan {
    pub flavor: Flavor,
    pub keypair: Option<Keypair>,
    pub image: BootImage,
    pub root_gib: i64,
    pub tuning: Tuning,
}

/// One POST /servers, ready to be written.
pub(crate) struct Command {
    pub creds: Asker,
    pub wanted: Wanted,
    pub plan: Plan,
    /// The server group that they join.
    pub group: Option<String>,
    pub hints: Map<String, Value>,
    pub project_id: String,
    pub reservation_id: String,
    pub now: String,
    pub request_id: String,
}

impl Command {
    /// Servers, ports, allocations and operations: all of them or none.
    pub fn run(&self, tx: &db::Tx<'_>, app: &App) -> Result<Vec<Server>> {
        let count = self.count(tx, app)?;
        let group = self.group(tx, app, count)?;
        (0..count).map(|index| self.make(tx, app, index, count, group.as_ref())).collect()
    }

    /// As many as the quota has room for, at least `min_count`.
    fn count(&self, tx: &db::Tx<'_>, app: &App) -> Result<usize> {
        let flavor = &self.plan.flavor;
        let quotas = limits::store::of_project(tx, &self.project_id, &app.options.quotas)?;
        limits::check_metadata(&quotas, self.wanted.metadata.len())?;
        personality::check_quota(tx, &self.project_id, &self.wanted.files)?;
        let used = store::usage(tx, &self.project_id)?;
        let (each, min) = ((flavor.vcpus, flavor.ram_mib), self.wanted.min_count);
        let count = limits::room(&quotas, used, each, min, self.wanted.max_count)?;
        let user_id = &self.creds.user_id;
        match limits::store::of_user(tx, &self.project_id, user_id, &app.options.quotas)? {
            Some(own) => limits::room(&own, store::usage_of_user(tx, &self.project_id, user_id)?, each, min, count),
            None => Ok(count),
        }
    }

    /// The group, if it is the project's and has room for so many more by its quota.
    fn group(&self, tx: &db::Tx<'_>, app: &App, count: usize) -> Result<Option<Group>> {
        let Some(id) = &self.group else { return Ok(None) };
        let group = server_groups::store::find(tx, id)?.filter(|group| group.project_id == self.project_id);
        let group =
            group.ok_or_else(|| Error::bad_request(server_groups::store::no_such_group(id).public().to_owned()))?;
        let most = limits::store::of_project(tx, &self.project_id, &app.options.quotas)?.server_group_members;
        let members = server_groups::store::count_members(tx, id, &self.creds.user_id)?;
        if most >= 0 && members.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)) > most {
            return Err(Error::over_quota("Quota exceeded, too many servers in group"));
        }
        Ok(Some(group))
    }

    /// Why the group keeps one more server off the only host, if it does.
    fn apart(tx: &db::Tx<'_>, group: Option<&Group>) -> Result<Option<String>> {
        let Some(group) = group else { return Ok(None) };
        let placed = server_groups::store::count_placed(tx, &group.id)?;
        Ok((!group.has_room(placed)).then(|| group.no_room(placed)))
    }

    fn make(&self, tx: &db::Tx<'_>, app: &App, index: usize, count: usize, group: Option<&Group>) -> Result<Server> {
        let (wanted, plan) = (&self.wanted, &self.plan);
        let id = rest::new_uuid();
        let name = if count == 1 { wanted.name.clone() } else { format!("{}-{}", wanted.name, index + 1) };
        let mut server = Server {
            hostname: self.hostname(&name, &id, count, index),
            name,
            project_id: self.project_id.clone(),
            user_id: self.creds.user_id.clone(),
            description: wanted.description.clone(),
            vm_state: VmState::Building,
            task_state: Some("block_device_mapping".into()),
            power_state: PowerState::NoState as i64,
            locked_by: None,
            image_id: Some(plan.image.id.clone()),
            image_properties: plan.image.properties.clone(),
            flavor: plan.flavor.clone(),
            root_gib: plan.root_gib,
            key_name: plan.keypair.as_ref().map(|key| key.name.clone()),
            public_key: plan.keypair.as_ref().map(|key| key.public_key.clone()),
            key_type: plan.keypair.as_ref().map(|key| key.kind.clone()),
            user_data: wanted.user_data.clone(),
            config_drive: wanted.config_drive || plan.image.needs_config_drive(),
            metadata: wanted.metadata.clone(),
            access_ipv4: wanted.access_ipv4.clone(),
            access_ipv6: wanted.access_ipv6.clone(),
            disk_config: wanted.disk_config.clone(),
            availability_zone: wanted
                .availability_zone
                .clone()
                .map(|zone| zone.split(':').next().unwrap_or_default().to_owned()),
            reservation_id: self.reservation_id.clone(),
            launch_index: i64::try_from(index).unwrap_or(i64::MAX),
            run_as: store::free_run_as(tx, i64::from(app.options.run_as_base.unwrap_or(1)))?,
            fault: None,
            created_at: self.now.clone(),
            updated_at: self.now.clone(),
            launched_at: None,
            terminated_at: None,
            locked_reason: None,
            scheduler_hints: self.hints.clone(),
            id,
        };
        // What does not fit is accepted and in error at once, with the shortage as its fault: clients wait for a status.
        let cpus = if plan.tuning.dedicated { cpus::choose(tx, plan.flavor.vcpus)? } else { Ok(Vec::new()) };
        let fits = match (&cpus, Self::apart(tx, group)?) {
            (_, Some(apart)) => Err(apart),
            (Ok(_), None) => allocation::claim(tx, &server)?,
            (Err(shortage), None) => Err(shortage.clone()),
        };
        if let Err(shortage) = fits {
            server.vm_state = VmState::Error;
            server.task_state = None;
            server.fault = Some(Fault { code: 500, message: shortage, created: self.now.clone() });
            store::insert(tx, &server)?;
            Self::join(tx, group, &server.id)?;
            self.tags(tx, &server.id)?;
            return Ok(server);
        }
        store::insert(tx, &server)?;
        Self::join(tx, group, &server.id)?;
        store::insert_dedicated_cpus(tx, &server.id, &cpus.unwrap_or_default())?;
        personality::replace(tx, &server.id, &self.wanted.files)?;
        self.ports(tx, app, &server)?;
        self.tags(tx, &server.id)?;
        let state = Create::Disk { admin_pass: server.config_drive.then(|| wanted.admin_pass.clone()) };
        tasks::start(tx, &self.creds.task(&server.id, "create", &self.request_id, &self.now), &state)
            .map_err(Error::internal)?;
        Ok(server)
    }

    /// The name asked for, with the number that the server's own name has where there are several.
    fn hostname(&self, name: &str, id: &str, count: usize, index: usize) -> String {
        match &self.wanted.hostname {
            None => model::hostname(name, id),
            Some(asked) if count == 1 => asked.clone(),
            Some(asked) => format!("{asked}-{}", index + 1),
        }
    }

    fn join(tx: &db::Tx<'_>, group: Option<&Group>, id: &str) -> Result<()> {
        group.map_or(Ok(()), |group| server_groups::store::insert_member(tx, &group.id, id))
    }

    fn tags(&self, tx: &db::Tx<'_>, id: &str) -> Result<()> {
        for tag in &self.wanted.tags {
            store::insert_tag(tx, id, tag)?;
        }
        Ok(())
    }

    fn ports(&self, tx: &db::Tx<'_>, app: &App, server: &Server) -> Result<()> {
        let requests: Vec<PortRequest> = match &self.wanted.networks {
            WantedNetworks::None => Vec::new(),
            WantedNetworks::Default => {
                network_info::only_network(tx, &self.project_id)?.into_iter().map(PortRequest::network).collect()
            }
            WantedNetworks::Auto => {
                vec![PortRequest::network(network_info::auto_network(tx, app, &self.project_id)?)]
            }
            WantedNetworks::Listed(list) => list.iter().cloned().map(PortRequest::from).collect(),
        };
        // At most as many as there are slots: the request was checked.
        for (slot, request) in (0_u8..).zip(&requests) {
            let port_id =
                network_info::take_port(tx, app, server, request, &self.wanted.security_groups, self.creds.admin)?;
            store::insert_nic(tx, &server.id, &port_id, slot, request.tag.as_deref())?;
        }
        Ok(())
    }
}

/// The operation behind 202: disk, then process. A step that fails is undone, and the server says why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Create {
    /// The root disk from the image, and the config drive.
    Disk { admin_pass: Option<String> },
    /// Taps and the VM process.
    Spawn,
    /// Everything away that the steps may have made; ids tell what, so no log of it is needed.
    Undo { why: String },
}

impl Operation for Create {
    const KIND: &'static str = "compute.server.create";
    type App = App;

    fn deadline(&self) -> std::time::Duration {
        match self {
            // A first use converts the image.
            Self::Disk { .. } => std::time::Duration::from_secs(1800),
            Self::Spawn | Self::Undo { .. } => std::time::Duration::from_secs(120),
        }
    }

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Disk { .. } => "compute_prepare_disk",
            Self::Spawn => "compute__do_build_and_run_instance",
            Self::Undo { .. } => "compute_undo_build",
        })
    }

    async fn advance(self, app: &App, task: &TaskContext) -> std::result::Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        match self {
            Self::Disk { admin_pass } => {
                tokio::select! {
                    made = task.act(disk::ensure(app, &server, admin_pass.as_deref())) => made?,
                    // A delete need not wait for a conversion: what is half done has its own names and is swept.
                    () = task.superseded() => return Err(Failure::fatal("The server was deleted while its disk was made.")),
                }
                Ok(Step::next(Self::Spawn, move |tx| store::set_task_state(tx, &id, Some("spawning"), &now)))
            }
            Self::Spawn => {
                run::ensure_running(app, task, &server).await?;
                Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Active, PowerState::Running, &now)))
            }
            Self::Undo { why } => {
                run::remove(app, task, &server).await?;
                let app = app.clone();
                Ok(Step::fail(why.clone(), move |tx| {
                    allocation::release(tx, &id)?;
                    store::delete_dedicated_cpus(tx, &id)?;
                    network_info::release(tx, &app, &id)?;
                    store::fail(tx, &id, PowerState::NoState, &why, &now)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        match self {
            Self::Disk { .. } | Self::Spawn => Step::next(Self::Undo { why: failure.public.clone() }, |_| Ok(())),
            // What is left still belongs to the row, so DELETE finishes the job.
            Self::Undo { why } => {
                let (id, now) = (task.resource().to_owned(), app.clock.now_text());
                let why = format!("{why} Cleaning up failed too: {}", failure.public);
                Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now))
            }
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}
