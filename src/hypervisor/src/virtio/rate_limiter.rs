//! Token buckets: so many operations and bytes a second, with a burst.
//!
//! A request larger than a whole bucket passes when the bucket is not in debt, and leaves it in debt: large requests are
//! slowed down, never stuck.

use std::time::{Duration, Instant};

/// What one bucket allows. A burst below one second's worth is taken as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    pub per_second: u64,
    pub burst: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    pub bytes: Option<Limit>,
    pub operations: Option<Limit>,
}

impl Limits {
    /// So much a second, and as much at once.
    pub fn per_second(bytes: Option<u64>, operations: Option<u64>) -> Self {
        let limit = |per_second: Option<u64>| per_second.map(|per_second| Limit { per_second, burst: per_second });
        Self { bytes: limit(bytes), operations: limit(operations) }
    }
}

/// What a disk may do: reading, writing, and everything together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    pub read: Limits,
    pub write: Limits,
    pub all: Limits,
}

impl From<&vmspec::DiskLimits> for DiskLimits {
    fn from(limits: &vmspec::DiskLimits) -> Self {
        Self {
            read: Limits::per_second(limits.read_bytes_per_second, limits.read_operations_per_second),
            write: Limits::per_second(limits.write_bytes_per_second, limits.write_operations_per_second),
            all: Limits::per_second(limits.total_bytes_per_second, limits.total_operations_per_second),
        }
    }
}

const NANO: i128 = 1_000_000_000;

#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: i128,
    /// In billionths of a token, as `level`.
    capacity: i128,
    level: i128,
}

impl Bucket {
    fn new(limit: Limit) -> Self {
        let rate = i128::from(limit.per_second.max(1));
        let capacity = i128::from(limit.burst.max(limit.per_second).max(1)) * NANO;
        Self { rate, capacity, level: capacity }
    }

    fn fill(&mut self, elapsed: Duration) {
        // A u64 times a Duration's nanoseconds (below 2^95 in all) could overflow in theory only; saturate all the same.
        let elapsed = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(self.rate.saturating_mul(elapsed)).min(self.capacity);
    }

    /// How long until it is out of debt.
    fn wait(&self) -> Duration {
        if self.level > 0 {
            return Duration::ZERO;
        }
        let nanos = (1 - self.level).div_euclid(self.rate) + 1;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
pub struct RateLimiter {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
    filled: Instant,
}

impl RateLimiter {
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { bytes: limits.bytes.map(Bucket::new), operations: limits.operations.map(Bucket::new), filled: now }
    }

    /// Take one operation of `bytes`, or say how long to wait before asking again.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Duration> {
        let wait = self.wait(now);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.pay(bytes, 1);
        Ok(())
    }

    /// How long until something may pass.
    fn wait(&mut self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        let mut wait = Duration::ZERO;
        for bucket in [&mut self.bytes, &mut self.operations].into_iter().flatten() {
            bucket.fill(elapsed);
            wait = wait.max(bucket.wait());
        }
        wait
    }

    /// For what passes, or has passed already.
    fn pay(&mut self, bytes: usize, operations: u32) {
        if let Some(bucket) = &mut self.bytes {
            let tokens = i128::try_from(bytes).unwrap_or(i128::MAX / 2).saturating_mul(NANO);
            bucket.level = bucket.level.saturating_sub(tokens);
        }
        if let Some(bucket) = &mut self.operations {
            bucket.level = bucket.level.saturating_sub(i128::from(operations) * NANO);
        }
    }
}

/// What a request of a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
    /// It moves nothing, and counts among all.
    Neither,
}

/// The limits of a disk: a request passes when its direction and the whole let it.
#[derive(Debug)]
pub struct DiskLimiter {
    read: RateLimiter,
    write: RateLimiter,
    all: RateLimiter,
}

impl DiskLimiter {
    pub fn new(limits: DiskLimits, now: Instant) -> Self {
        let DiskLimits { read, write, all } = limits;
        Self { read: RateLimiter::new(read, now), write: RateLimiter::new(write, now), all: RateLimiter::new(all, now) }
    }

    fn of(&mut self, direction: Direction) -> impl Iterator<Item = &mut RateLimiter> {
        let own = match direction {
            Direction::Read => Some(&mut self.read),
            Direction::Write => Some(&mut self.write),
            Direction::Neither => None,
        };
        own.into_iter().chain([&mut self.all])
    }

    /// Take one operation of `bytes`, or say how long to wait before asking again.
    pub fn take(&mut self, direction: Direction, bytes: usize, now: Instant) -> Result<(), Duration> {
        let wait = self.of(direction).map(|limiter| limiter.wait(now)).max().unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.of(direction).for_each(|limiter| limiter.pay(bytes, 1));
        Ok(())
    }

    /// An operation has turned out larger than was known when it passed.
    pub fn pay(&mut self, direction: Direction, bytes: usize) {
        self.of(direction).for_each(|limiter| limiter.pay(bytes, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(bytes: Option<(u64, u64)>, operations: Option<(u64, u64)>, now: Instant) -> RateLimiter {
        let limit = |(per_second, burst)| Limit { per_second, burst };
        RateLimiter::new(Limits { bytes: bytes.map(limit), operations: operations.map(limit) }, now)
    }

    #[test]
    fn without_limits_everything_passes() {
        let now = Instant::now();
        let mut limiter = limiter(None, None, now);
        assert!((0..1000).all(|_| limiter.take(usize::MAX, now).is_ok()));
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut limiter = limiter(None, Some((100, 200)), start);
        assert!((0..200).all(|_| limiter.take(1, start).is_ok()));
        let wait = limiter.take(1, start).unwrap_err();
        assert!(wait <= Duration::from_millis(11), "{wait:?}");
        let mut passed = 0;
        let mut now = start;
        while now < start + Duration::from_secs(10) {
            match limiter.take(1, now) {
                Ok(()) => passed += 1,
                Err(wait) => now += wait,
            }
        }
        assert!((999..=1001).contains(&passed), "{passed}");
    }

    #[test]
    fn a_request_larger_than_the_bucket_passes_and_is_paid_for_afterwards() {
        let start = Instant::now();
        let mut limiter = limiter(Some((1000, 1000)), None, start);
        limiter.take(5000, start).unwrap();
        let wait = limiter.take(1, start).unwrap_err();
        assert!(wait > Duration::from_millis(3990) && wait < Duration::from_millis(4010), "{wait:?}");
        assert!(limiter.take(1, start + Duration::from_secs(3)).is_err());
        limiter.take(1, start + Duration::from_millis(4010)).unwrap();
    }

    #[test]
    fn each_direction_of_a_disk_has_its_own_limits_and_what_is_done_later_is_paid_later() {
        let start = Instant::now();
        let wanted = vmspec::DiskLimits {
            read_bytes_per_second: Some(1000),
            write_operations_per_second: Some(2),
            ..vmspec::DiskLimits::default()
        };
        let mut limiter = DiskLimiter::new((&wanted).into(), start);
        limiter.take(Direction::Read, 1000, start).unwrap();
        assert!(limiter.take(Direction::Read, 1, start).is_err());
        limiter.take(Direction::Write, usize::MAX, start).unwrap();
        limiter.take(Direction::Write, usize::MAX, start).unwrap();
        assert!(limiter.take(Direction::Write, 0, start).is_err());
        assert!((0..1000).all(|_| limiter.take(Direction::Neither, 0, start).is_ok()));
        limiter.pay(Direction::Read, 9000);
        assert!(limiter.take(Direction::Read, 1, start + Duration::from_secs(8)).is_err());
        limiter.take(Direction::Read, 1, start + Duration::from_millis(9010)).unwrap();

        let wanted = vmspec::DiskLimits { total_operations_per_second: Some(3), ..vmspec::DiskLimits::default() };
        let mut limiter = DiskLimiter::new((&wanted).into(), start);
        for direction in [Direction::Read, Direction::Write, Direction::Neither] {
            limiter.take(direction, 1, start).unwrap();
        }
        for direction in [Direction::Read, Direction::Write, Direction::Neither] {
            assert!(limiter.take(direction, 1, start).is_err());
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_absurd_numbers_do_no_harm() {
        let now = Instant::now();
        let mut limiter = limiter(Some((u64::MAX, u64::MAX)), Some((0, 0)), now);
        limiter.take(usize::MAX, now).unwrap();
        assert!(limiter.take(usize::MAX, now).is_err());
        let _ = limiter.take(usize::MAX, now + Duration::from_secs(u64::from(u32::MAX)));
    }
}
