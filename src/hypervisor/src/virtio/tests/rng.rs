use proptest::prelude::*;

use super::*;
use crate::virtio::rng::Rng;

#[test]
fn every_request_is_filled_with_something_new() {
    let mut device = Rng::new().unwrap();
    let rig = Rig::new(device.features());
    let mut queue = rig.queue(0, 64);
    rig.activate(&mut device, &[&queue]);
    let (a, b) = (rig.alloc(64), rig.alloc(64));
    let head = queue.submit(&rig, &[(a, 40, WRITE), (b, 24, WRITE)]);
    assert_eq!(queue.wait_used(&rig), (head, 64));
    let first = rig.read(a, 40);
    queue.submit(&rig, &[(a, 40, WRITE)]);
    assert_eq!(queue.wait_used(&rig).1, 40);
    assert_ne!(rig.read(a, 40), first);
    assert_ne!(rig.read(b, 24), vec![0; 24]);
}

#[test]
fn a_request_for_megabytes_is_answered_with_some() {
    let mut device = Rng::new().unwrap();
    let rig = Rig::new(0);
    let mut queue = rig.queue(0, 64);
    rig.activate(&mut device, &[&queue]);
    for _ in 0..200 {
        queue.submit(&rig, &[(DATA, 2 << 20, WRITE)]);
        assert_eq!(queue.wait_used(&rig).1, 4096);
    }
    queue.submit(&rig, &[(DATA, 100, READ)]);
    assert_eq!(queue.wait_used(&rig).1, 0, "what the guest only lets us read is not written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_in_the_ring_never_stops_the_device(seed: u64) {
        let mut device = Rng::new().unwrap();
        for round in 0..4 {
            torment(&mut device, seed.wrapping_add(round));
        }
        let rig = Rig::new(0);
        let mut queue = rig.queue(0, 8);
        rig.activate(&mut device, &[&queue]);
        queue.submit(&rig, &[(DATA, 16, WRITE)]);
        prop_assert_eq!(queue.wait_used(&rig).1, 16);
    }
}
