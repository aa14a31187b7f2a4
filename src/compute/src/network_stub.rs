#![allow(dead_code, unused, reason = "temporary")]
use db::Tx;
use futures::future::BoxFuture;
use rest::Result;
use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};
#[derive(Clone, Debug)]
pub struct App;
pub mod peer {
    use super::*;
    pub struct Caller {
        pub network_id: String,
        pub port_id: String,
        pub device_id: String,
        pub project_id: String,
    }
    pub type Handler =
        Arc<dyn Fn(Caller, http::Request<Vec<u8>>) -> BoxFuture<'static, http::Response<Vec<u8>>> + Send + Sync>;
    pub fn set_metadata_handler(_: &App, _: Handler) {}
    pub struct Fixed {
        pub address: IpAddr,
        pub subnet_id: String,
        pub cidr: ipnet::IpNet,
        pub gateway: Option<IpAddr>,
        pub dns_servers: Vec<IpAddr>,
        pub host_routes: Vec<Route>,
        pub dhcp: bool,
    }
    pub struct Route {
        pub destination: ipnet::IpNet,
        pub nexthop: IpAddr,
    }
    pub struct Port {
        pub port_id: String,
        pub device_id: String,
        pub network_id: String,
        pub network_name: String,
        pub mac: String,
        pub mtu: u16,
        pub active: bool,
        pub fixed_ips: Vec<Fixed>,
        pub floating_ips: Vec<IpAddr>,
        pub security_groups: Vec<(String, String)>,
    }
    pub fn ports_of(_: &Tx<'_>, _: &[&str]) -> Result<Vec<Port>> {
        Ok(vec![])
    }
    pub struct Net {
        pub id: String,
    }
    pub fn available_networks(_: &Tx<'_>, _: &str) -> Result<Vec<Net>> {
        Ok(vec![])
    }
    pub struct PortRequest {
        pub network_id: Option<String>,
        pub port_id: Option<String>,
        pub fixed_ip: Option<IpAddr>,
        pub security_groups: Vec<String>,
        pub server_id: String,
        pub project_id: String,
        pub is_admin: bool,
        pub hostname: String,
        pub availability_zone: String,
        pub host: String,
    }
    pub fn take_port(_: &Tx<'_>, _: &App, _: &PortRequest) -> Result<String> {
        Ok(String::new())
    }
    pub fn release_ports(_: &Tx<'_>, _: &str) -> Result<()> {
        Ok(())
    }
    pub fn change_security_group(_: &Tx<'_>, _: &str, _: &str, _: &str, _: bool) -> Result<()> {
        Ok(())
    }
    pub async fn plug(_: &App, _: &str) -> Result<OwnedFd> {
        Err(rest::Error::internal("x"))
    }
    pub async fn unplug(_: &App, _: &str) -> Result<()> {
        Ok(())
    }
}
