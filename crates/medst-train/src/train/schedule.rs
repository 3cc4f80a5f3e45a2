//! The learning rate: linear warm-up, then a cosine (the reference's scheduler).

/// The least learning rate of pre-training, the reference's; less where the highest one is less.
pub const LEAST: f64 = 1e-8;

/// Warm-up from `min` to `max`, then a half cosine back to `min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub max: f64,
    pub min: f64,
    /// Steps in which the rate rises.
    pub warmup: u64,
    /// All steps; later ones stay at `min`.
    pub total: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0: `min + (max − min)·step/warmup`, then
    /// `min + (max − min)(1 + cos(π(step − warmup)/(total − warmup)))/2`.
    pub fn rate(&self, step: u64) -> f64 {
        let range = self.max - self.min;
        if step < self.warmup {
            return self.min + range * step as f64 / self.warmup as f64;
        }
        let falling = self.total.saturating_sub(self.warmup).max(1);
        let progress = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        self.min + range * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_its_maximum_and_falls_to_its_minimum() {
        let schedule = Schedule { max: 4e-5, min: 1e-8, warmup: 40, total: 100 };
        assert_eq!(schedule.rate(0), 1e-8);
        assert_eq!(schedule.rate(40), 4e-5);
        assert!((schedule.rate(70) - (4e-5 + 1e-8) / 2.0).abs() < 1e-12);
        assert!((schedule.rate(100) - 1e-8).abs() < 1e-15);
        assert_eq!(schedule.rate(500), schedule.rate(100));
    }

    #[test]
    fn no_warmup_begins_at_the_maximum() {
        assert_eq!(Schedule { max: 1.0, min: 0.0, warmup: 0, total: 10 }.rate(0), 1.0);
    }
}
