//! The disk that carries metadata into a guest.

use kit::{Persona::Member, TestCloud, base64};
use serde_json::{Value, json};

use crate::servers::text;

#[tokio::test]
async fn a_config_drive_carries_user_data_key_and_metadata() {
    let cloud = TestCloud::configured("config_drive_format = \"vfat\"\n").await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    cloud.as_(Member).post("/compute/v2.1/os-keypairs", json!({"keypair": {"name": "mine"}})).await.expect(200);
    let id = cloud
        .boot(
            Member,
            json!({
                "name": "With Config", "config_drive": true, "key_name": "mine", "adminPass": "geheim",
                "user_data": base64("#!/bin/sh\necho hello\n"), "metadata": {"role": "db"},
            }),
        )
        .await;
    let shown = cloud.show(Member, &id).await;
    assert_eq!((&shown["config_drive"], &shown["key_name"]), (&json!("True"), &json!("mine")));
    let drive = std::fs::File::options()
        .read(true)
        .write(true)
        .open(cloud.state().join("servers").join(&id).join("disk.config"))
        .unwrap();
    let files = fatfs::FileSystem::new(drive, fatfs::FsOptions::new()).unwrap();
    assert_eq!(files.volume_label(), "config-2");
    let read = |path: &str| {
        let mut content = String::new();
        std::io::Read::read_to_string(&mut files.root_dir().open_file(path).unwrap(), &mut content).unwrap();
        content
    };
    assert_eq!(read("openstack/latest/user_data"), "#!/bin/sh\necho hello\n");
    let meta: Value = serde_json::from_str(&read("openstack/latest/meta_data.json")).unwrap();
    assert_eq!(meta["uuid"], id);
    assert_eq!(meta["hostname"], "with-config");
    assert_eq!(meta["meta"], json!({"role": "db"}));
    assert_eq!(meta["admin_pass"], "geheim");
    assert!(text(&meta["public_keys"]["mine"]).starts_with("ssh-ed25519 "));
    let network: Value = serde_json::from_str(&read("openstack/latest/network_data.json")).unwrap();
    let mac = &shown["addresses"]["inside"][0]["OS-EXT-IPS-MAC:mac_addr"];
    assert_eq!(&network["links"][0]["ethernet_mac_address"], mac);
    let ec2: Value = serde_json::from_str(&read("ec2/latest/meta-data.json")).unwrap();
    assert_eq!(ec2["local-hostname"], "with-config");
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_config_drive_is_what_upstreams_default_is_unless_asked_for_otherwise() {
    let cloud = TestCloud::start().await;
    let user_data = "#!/bin/sh\necho of this server alone\n";
    let id = cloud.boot(Member, json!({"config_drive": true, "user_data": base64(user_data)})).await;
    let drive = std::fs::read(cloud.state().join("servers").join(&id).join("disk.config")).unwrap();
    // Sectors of 2 KiB; the sixteenth says what follows, and what it is called.
    let descriptor = &drive[16 * 2048..17 * 2048];
    assert_eq!(&descriptor[..6], b"\x01CD001");
    assert_eq!(descriptor[40..72].trim_ascii_end(), b"config-2");
    let holds = |words: &str| drive.windows(words.len()).any(|window| window == words.as_bytes());
    assert!(holds(user_data) && holds(&id) && holds("network_data.json"));
}
