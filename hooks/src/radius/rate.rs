//! How much of one client is taken: a client that has gone wrong must not cost the others their arrivals.

use std::time::Instant;

/// A bucket that fills with time. A second's worth may come at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(each_second: u32, now: Instant) -> Self {
        Self { left: f64::from(each_second), filled: now }
    }

    /// Takes one packet, if there is one left; `each_second` = 0 has no limit.
    pub(crate) fn take(&mut self, each_second: u32, now: Instant) -> bool {
        let most = f64::from(each_second);
        self.left = (self.left + now.duration_since(self.filled).as_secs_f64() * most).min(most);
        self.filled = now;
        if each_second == 0 {
            return true;
        }
        let allowed = self.left >= 1.0;
        self.left -= f64::from(u8::from(allowed));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_holds_so_many_and_no_more() {
        let begin = Instant::now();
        let mut bucket = Bucket::full(10, begin);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(10, at)).count();
        assert_eq!(taken(&mut bucket, begin), 10);
        assert_eq!(taken(&mut bucket, begin + Duration::from_millis(500)), 5);
        assert_eq!(
            taken(&mut bucket, begin + Duration::from_secs(60)),
            10,
            "what was not used does not pile up"
        );
        assert!((0..100).all(|_| bucket.take(0, begin + Duration::from_secs(60))), "0 is no limit");
    }
}
