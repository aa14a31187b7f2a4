//! What the kernel's network offers, tried in a namespace of its own.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rtnetlink::{LinkBridge, LinkVeth};

use super::{DEADLINE, Row, Trouble, output};

/// The kernel's network features, tried in a namespace of their own.
pub async fn network() -> Vec<Row> {
    const CHECK: &str = "network namespaces";
    let advice = "run it as root, with a kernel that has CONFIG_NET_NS";
    let (done, rows) = tokio::sync::oneshot::channel();
    // The namespace belongs to this one thread and ends with it; no thread of the runtime ever leaves its own.
    let thread = std::thread::Builder::new().name("doctor-netns".into()).spawn(move || {
        let rows = (|| -> io::Result<Vec<Row>> {
            let home = std::fs::File::open("/proc/thread-self/ns/net")?;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let rows = runtime.block_on(in_new_namespace());
            drop(runtime);
            // Not needed for the thread, which ends; it proves that namespaces can be entered too.
            nix::sched::setns(home.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(rows)
        })();
        let _ = done.send(rows);
    });
    let result = match thread {
        Ok(_) => tokio::time::timeout(DEADLINE * 6, rows).await.map_err(|_| "no answer".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(Ok(Ok(mut rows))) => {
            rows.insert(0, Row::ok(CHECK, "can be made and entered"));
            rows
        }
        Ok(Ok(Err(error))) => vec![Row::fail(CHECK, format!("cannot be made: {error}"), advice)],
        Ok(Err(_)) => vec![Row::fail(CHECK, "the trial ended early", advice)],
        Err(reason) => vec![Row::fail(CHECK, reason, advice)],
    }
}

async fn in_new_namespace() -> Vec<Row> {
    let mut rows = Vec::new();
    match rtnetlink::new_connection() {
        Ok((connection, netlink, _)) => {
            tokio::spawn(connection);
            let bridge = add_link(&netlink, LinkBridge::new("doctor-br").build()).await;
            rows.push(feature("bridges", bridge, "a kernel with CONFIG_BRIDGE (modprobe bridge)"));
            let veth = add_link(&netlink, LinkVeth::new("doctor-a", "doctor-b").build()).await;
            rows.push(feature("veth pairs", veth, "a kernel with CONFIG_VETH (modprobe veth)"));
        }
        Err(error) => rows.push(Row::fail("netlink", error.to_string(), "a kernel with CONFIG_NETLINK")),
    }
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let tun = tun.map(|_| ()).map_err(|error| format!("/dev/net/tun: {error}"));
    rows.push(feature("tap devices", tun, "a kernel with CONFIG_TUN (modprobe tun), and /dev/net/tun"));
    let nat = nft("table inet doctor {
            chain f { type filter hook forward priority 0; ct state established,related accept; }
            chain n { type nat hook postrouting priority 100; masquerade; }
        }")
    .await;
    rows.push(feature("nat and conntrack", nat, "a kernel with CONFIG_NF_TABLES, CONFIG_NFT_CT and CONFIG_NFT_MASQ"));
    // Security groups need states on bridged packets: in nftables' own bridge family, or through br_netfilter.
    let own = nft("table bridge doctor {
            chain f { type filter hook forward priority 0; ct state established accept; }
        }")
    .await;
    let through = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
    rows.push(match (own, through) {
        (Ok(()), _) => Row::ok("bridge filtering", "nf_conntrack_bridge"),
        (Err(_), true) => Row::ok("bridge filtering", "br_netfilter"),
        (Err(reason), false) => Row::fail(
            "bridge filtering",
            format!("neither br_netfilter nor nf_conntrack_bridge ({reason})"),
            "modprobe br_netfilter; without it security groups cannot be kept",
        ),
    });
    rows
}

async fn add_link(netlink: &rtnetlink::Handle, link: rtnetlink::packet_route::link::LinkMessage) -> Result<(), String> {
    match tokio::time::timeout(DEADLINE, netlink.link().add(link).execute()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

async fn nft(rules: &str) -> Result<(), String> {
    match output("nft", &["-f", "-"], rules).await {
        Ok(_) => Ok(()),
        Err(Trouble::Missing) => Err("nft is not installed".into()),
        Err(Trouble::Other(reason)) => Err(reason),
    }
}

fn feature(check: &'static str, tried: Result<(), String>, needs: &str) -> Row {
    match tried {
        Ok(()) => Row::ok(check, "work"),
        Err(reason) => Row::fail(check, reason, format!("needs {needs}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_the_trial_is_left_in_our_namespace() {
        let links = || std::fs::read_to_string("/proc/net/dev").unwrap();
        assert!(!links().contains("doctor-"));
        let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        network().await;
        assert!(!links().contains("doctor-"));
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    }
}
