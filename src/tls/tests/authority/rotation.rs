//! Rotation while requests run.

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_fails_no_request_on_old_or_new_connections() {
    let world = World::new();
    let authority = world.open();
    let (port, stop) = echo_server(&authority).await;
    let ca = authority.ca_pem();
    let done = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicUsize::new(0));
    let handshakes: Arc<[AtomicUsize; 8]> = Arc::default();

    let mut clients = Vec::new();
    for id in 0..16u8 {
        let (ca, hands, done) = (ca.clone(), world.hands.clone(), done.clone());
        let (requests, handshakes) = (requests.clone(), handshakes.clone());
        clients.push(tokio::spawn(async move {
            let mut leafs = std::collections::HashSet::new();
            let keep_alive = id % 2 == 0;
            let mut stream = connect(port, &ca, hands.now()).await?;
            while !done.load(Ordering::SeqCst) {
                if !keep_alive {
                    // The time is taken before the handshake: what is served then must be valid then.
                    stream = connect(port, &ca, hands.now()).await?;
                    handshakes[usize::from(id / 2)].fetch_add(1, Ordering::SeqCst);
                    leafs.insert(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec());
                }
                echo(&mut stream, id).await?;
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            // A connection of the beginning still works after all rotations.
            echo(&mut stream, id).await?;
            std::io::Result::Ok(leafs)
        }));
    }

    const ROTATIONS: usize = 240;
    let counts = || handshakes.each_ref().map(|count| count.load(Ordering::SeqCst));
    for round in 0..ROTATIONS {
        if round % 12 == 0 {
            // A handshake may see two moves of the clock, 20 hours, but not three: a client a day behind the server is
            // right to refuse.
            let before = counts();
            let deadline = std::time::Instant::now() + StdDuration::from_secs(30);
            while counts().iter().zip(before).any(|(now, before)| *now == before) {
                assert!(std::time::Instant::now() < deadline, "a client is stuck or gone: {:?}", counts());
                tokio::time::sleep(StdDuration::from_millis(1)).await;
            }
            match round / 12 % 3 {
                // Half life, found by the timer.
                0 => world.hands.advance(Duration::hours(7)),
                // Expired, found by a handshake.
                1 => {
                    world.hands.advance(Duration::hours(13));
                    tokio::time::sleep(StdDuration::from_millis(5)).await;
                }
                // The intermediate has to be made again.
                _ => std::fs::remove_file(world.file("intermediate.pem")).unwrap(),
            }
            assert!(authority.renew_if_due().unwrap().leaf || round / 12 % 3 == 1);
        } else {
            let name = format!("n{round}.example");
            assert!(authority.set_names(names("localhost", &[&name], &[])).unwrap().leaf);
        }
        tokio::time::sleep(StdDuration::from_millis(2)).await;
    }
    done.store(true, Ordering::SeqCst);
    let mut seen = std::collections::HashSet::new();
    for client in clients {
        seen.extend(client.await.unwrap().expect("a request failed during rotation"));
    }
    stop.store(true, Ordering::SeqCst);
    let (requests, connections) = (requests.load(Ordering::SeqCst), counts().iter().sum::<usize>());
    assert!(requests > 300 && connections > 100 && seen.len() > 40, "{requests} {connections} {}", seen.len());
}

// What is on disk.
