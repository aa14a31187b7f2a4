//! The flows that the kernel tracks in a namespace: listing and ending them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netfilter::{Netfilter, attributes, push_attribute, push_nested};
use crate::{Error, Result};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

/// A flow as its first packet had it, and where replies come from and go to (which differs by address translation).
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub icmp_kind: u8,
    pub icmp_code: u8,
    pub reply_source: IpAddr,
    pub reply_destination: IpAddr,
    /// One end is this namespace itself.
    pub is_local: bool,
    /// The original tuple and the id as the kernel sent them: what names the flow when it is ended.
    family: u8,
    tuple: Vec<u8>,
    id: Vec<u8>,
}

pub(crate) struct Conntrack {
    netfilter: Netfilter,
    local: Vec<IpAddr>,
}

impl Conntrack {
    /// Of the namespace that the calling thread is in.
    pub fn open() -> Result<Self> {
        Ok(Self { netfilter: Netfilter::open()?, local: local_addresses()? })
    }

    pub fn flows(&mut self) -> Result<Vec<Flow>> {
        let answers = self
            .netfilter
            .request(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, true, 0, &[])
            .map_err(|e| Error::io("listing flows", e))?;
        Ok(answers.iter().filter_map(|answer| flow(answer.family, &answer.attributes, &self.local)).collect())
    }

    /// Ends a flow; gone already is fine.
    pub fn remove(&mut self, flow: &Flow) -> Result<()> {
        let mut request = Vec::new();
        push_nested(&mut request, CTA_TUPLE_ORIG, |inner| inner.extend_from_slice(&flow.tuple));
        // With the id, a new flow with the same addresses is not hit.
        push_attribute(&mut request, CTA_ID, &flow.id);
        match self.netfilter.request(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE, false, flow.family, &request) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ENOENT) => Err(Error::io("ending a flow", e)),
            _ => Ok(()),
        }
    }
}

fn local_addresses() -> Result<Vec<IpAddr>> {
    let mut netlink = crate::netlink::Netlink::open()?;
    let mut local = Vec::new();
    for link in netlink.links()? {
        local.extend(netlink.addresses(link.index)?.into_iter().map(|net| net.addr()));
    }
    Ok(local)
}

fn flow(family: u8, bytes: &[u8], local: &[IpAddr]) -> Option<Flow> {
    let find = |wanted: u16| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let tuple = find(CTA_TUPLE_ORIG)?;
    let (source, destination) = addresses(tuple)?;
    let (reply_source, reply_destination) = addresses(find(CTA_TUPLE_REPLY)?)?;
    let protocol = nested(tuple, CTA_TUPLE_PROTO)?;
    let byte = |kinds: [u16; 2]| {
        attributes(protocol).find(|(kind, _)| kinds.contains(kind)).and_then(|(_, value)| value.first().copied())
    };
    let port = |wanted: u16| {
        nested(protocol, wanted)
            .and_then(|value| value.first_chunk::<2>())
            .map_or(0, |value| u16::from_be_bytes(*value))
    };
    Some(Flow {
        source,
        destination,
        protocol: byte([CTA_PROTO_NUM; 2])?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
        icmp_kind: byte([CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_TYPE]).unwrap_or(0),
        icmp_code: byte([CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMPV6_CODE]).unwrap_or(0),
        reply_source,
        reply_destination,
        is_local: local.contains(&source) || local.contains(&destination),
        family,
        tuple: tuple.to_vec(),
        id: find(CTA_ID)?.to_vec(),
    })
}

fn nested(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn addresses(tuple: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let ip = nested(tuple, CTA_TUPLE_IP)?;
    let v4 = |kind| nested(ip, kind).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(|v| IpAddr::V4(Ipv4Addr::from(v)));
    let v6 = |kind| nested(ip, kind).and_then(|v| <[u8; 16]>::try_from(v).ok()).map(|v| IpAddr::V6(Ipv6Addr::from(v)));
    Some((v4(CTA_IP_V4_SRC).or_else(|| v6(CTA_IP_V6_SRC))?, v4(CTA_IP_V4_DST).or_else(|| v6(CTA_IP_V6_DST))?))
}
