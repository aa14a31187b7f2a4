//! How fast anybody may guess: a few tries a minute from one place, and not many more from all places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const MINUTE: Duration = Duration::from_secs(60);
const FROM_ONE_PLACE: u32 = 5;
const FROM_ALL_PLACES: u32 = 60;

#[derive(Debug, Default)]
pub struct Pace {
    minute: Mutex<Option<Minute>>,
}

#[derive(Debug)]
struct Minute {
    began: Instant,
    all: u32,
    places: HashMap<IpAddr, u32>,
}

impl Pace {
    /// Counts a try.
    ///
    /// # Errors
    /// How long to wait.
    pub fn try_again(&self, peer: IpAddr) -> Result<(), Duration> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.as_ref().is_none_or(|minute| minute.began.elapsed() >= MINUTE) {
            *minute = None;
        }
        let minute = minute.get_or_insert_with(|| Minute { began: Instant::now(), all: 0, places: HashMap::new() });
        // At most as many places as tries.
        let tries = minute.places.get(&place(peer)).copied().unwrap_or(0);
        if tries >= FROM_ONE_PLACE || minute.all >= FROM_ALL_PLACES {
            return Err(MINUTE.saturating_sub(minute.began.elapsed()));
        }
        minute.all += 1;
        minute.places.insert(place(peer), tries + 1);
        Ok(())
    }

    pub fn forget(&self, peer: IpAddr) {
        if let Some(minute) = &mut *self.minute.lock().unwrap_or_else(PoisonError::into_inner) {
            minute.places.remove(&place(peer));
        }
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn place(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_a_few_tries_and_all_together_not_many_more() {
        let pace = Pace::default();
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        for host in 1..=FROM_ONE_PLACE {
            assert!(pace.try_again(peer(&format!("2001:db8::{host}"))).is_ok());
        }
        let wait = pace.try_again(peer("2001:db8::ffff")).unwrap_err();
        assert!(wait <= MINUTE && wait > Duration::ZERO);
        assert!(pace.try_again(peer("192.0.2.1")).is_ok(), "others go on");
        assert!(pace.try_again(peer("::ffff:192.0.2.1")).is_ok());
        let tried = (0..=255).filter(|host| pace.try_again(peer(&format!("198.51.100.{host}"))).is_ok()).count();
        assert_eq!(tried, FROM_ALL_PLACES as usize - FROM_ONE_PLACE as usize - 2);
    }
}
