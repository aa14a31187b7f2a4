//! nftables: applying rule sets with `nft`, and the few questions asked of the kernel directly because a process per
//! question would be too slow for hundreds of namespaces: the generation, and which tables exist.

use std::io;

use rtnetlink::sys::{Socket, protocols};
use uuid::Uuid;

use crate::{Error, Inner, Result, command, netlink};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_GEN_ID: u16 = 1;

/// What was last applied to a namespace: if nft's generation is still the same, nobody changed anything since.
pub(crate) struct Applied {
    generation: u32,
    /// A digest: the rules of hundreds of networks would be many megabytes.
    rules: Uuid,
}

/// A connection to netfilter in the namespace of the thread that opened it.
pub(crate) struct Netfilter {
    socket: Socket,
    sequence: u32,
}

pub(crate) struct Answer {
    pub family: u8,
    /// Attributes, encoded.
    pub attributes: Vec<u8>,
}

impl Netfilter {
    pub fn open() -> Result<Self> {
        let socket =
            netlink::open_socket(protocols::NETLINK_NETFILTER).map_err(|e| Error::io("opening netfilter", e))?;
        Ok(Self { socket, sequence: 0 })
    }

    pub fn request(
        &mut self,
        subsystem: u16,
        message: u16,
        dump: bool,
        family: u8,
        attributes: &[u8],
    ) -> io::Result<Vec<Answer>> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = 20 + attributes.len();
        let flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { NLM_F_ACK };
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&(subsystem << 8 | message).to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        // struct nfgenmsg: family, version, resource id
        bytes.extend_from_slice(&[family, 0, 0, 0]);
        bytes.extend_from_slice(attributes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while let Some((header, _)) = rest.split_first_chunk::<16>() {
                let [l0, l1, l2, l3, t0, t1, _, _, s0, s1, s2, s3, ..] = *header;
                let length = (u32::from_ne_bytes([l0, l1, l2, l3]) as usize).clamp(16, rest.len());
                let payload = &rest[16..length];
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                if u32::from_ne_bytes([s0, s1, s2, s3]) != self.sequence {
                    continue;
                }
                match u16::from_ne_bytes([t0, t1]) {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => {
                        if let Some((head, attributes)) = payload.split_first_chunk::<4>() {
                            answers.push(Answer { family: head[0], attributes: attributes.to_vec() });
                        }
                    }
                }
            }
        }
    }

    /// Changes with every nft transaction in this namespace.
    pub fn generation(&mut self) -> Result<u32> {
        let failed = |e| Error::io("asking for the nftables generation", e);
        let answers = self.request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN, false, 0, &[]).map_err(failed)?;
        let id = answers.iter().find_map(|answer| {
            attributes(&answer.attributes)
                .find(|(kind, _)| *kind == NFTA_GEN_ID)
                .and_then(|(_, value)| value.first_chunk::<4>().copied())
        });
        id.map(u32::from_be_bytes).ok_or_else(|| failed(io::Error::other("the answer has no number")))
    }

    /// Tables as (family, name).
    pub fn tables(&mut self) -> Result<Vec<(&'static str, String)>> {
        let answers = self
            .request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE, true, 0, &[])
            .map_err(|e| Error::io("listing nft tables", e))?;
        Ok(answers
            .iter()
            .filter_map(|answer| {
                let (_, name) = attributes(&answer.attributes).find(|(kind, _)| *kind == NFTA_TABLE_NAME)?;
                let name = name.split(|byte| *byte == 0).next()?;
                Some((family(answer.family), String::from_utf8_lossy(name).into_owned()))
            })
            .collect())
    }
}

fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}

/// The attributes of a netlink message: kind without flags, and value. Ends at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Appends one attribute.
pub(crate) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Appends an attribute that holds attributes.
pub(crate) fn push_nested(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    push_attribute(bytes, kind | 0x8000, &inner);
}

/// Applies a rule set in one transaction in the calling thread's namespace, which is called `name`. False when the
/// kernel has exactly these rules already. On error the old rules stay.
pub(crate) fn apply(host: &Inner, name: &str, rules: &str) -> Result<bool> {
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, rules.as_bytes());
    let mut netfilter = Netfilter::open()?;
    let generation = netfilter.generation()?;
    let lock = || host.applied.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if lock().get(name).is_some_and(|applied| applied.generation == generation && applied.rules == digest) {
        return Ok(false);
    }
    command::run("nft", &["-f", "-"], Some(rules))?;
    let generation = netfilter.generation()?;
    lock().insert(name.to_owned(), Applied { generation, rules: digest });
    Ok(true)
}

/// Forgets what was applied: the namespace is gone.
pub(crate) fn forget(host: &Inner, name: &str) {
    host.applied.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put_and_broken_ones_end_the_list() {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, 1, b"abc");
        push_nested(&mut bytes, 2, |inner| push_attribute(inner, 7, &[9]));
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found[0], (1, b"abc".as_slice()));
        assert_eq!(found[1].0, 2);
        assert_eq!(attributes(found[1].1).next(), Some((7, [9].as_slice())));
        for cut in 0..bytes.len() {
            let _ = attributes(&bytes[..cut]).count();
        }
        for length in 0..4u16 {
            let broken = [length.to_ne_bytes(), [1, 0]].concat();
            assert_eq!(attributes(&broken).count(), 0);
        }
    }
}
