//! How the learning rate changes.
//!
//! Owns: [`Schedule`], [`Plateau`]. Must not know: optimisers, losses.
//! Source: PyTorch `CosineAnnealingLR` (closed form), `StepLR`, `ReduceLROnPlateau`; warm-up as a factor on top.

use crate::config::settings;
use serde::{Deserialize, Serialize};

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    rule: settings::Schedule,
    warm_up_steps: u64,
    epochs: u32,
}

/// What a schedule that waits for better validations remembers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// What is left of the learning rate.
    pub factor: f64,
    /// Validations since the best one, or since it last went down.
    pub waited: u32,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 1.0, waited: 0 }
    }
}

impl Schedule {
    /// The rule of the settings.
    pub fn new(train: &settings::Train) -> Self {
        Self { rule: train.schedule, warm_up_steps: train.warm_up_steps, epochs: train.epochs }
    }

    /// What the learning rate is multiplied by in step `step` of all, which is step `of_epoch.0` of the `of_epoch.1` of
    /// `epoch`; all from 0.
    pub fn factor(&self, step: u64, epoch: u32, of_epoch: (u64, u64), plateau: &Plateau) -> f64 {
        let warm = if step < self.warm_up_steps { (step + 1) as f64 / self.warm_up_steps as f64 } else { 1.0 };
        let of_rule = match self.rule {
            settings::Schedule::Constant {} => 1.0,
            settings::Schedule::Cosine { half_period_epochs, least_factor, per_step } => {
                let within = if per_step { of_epoch.0 as f64 / of_epoch.1.max(1) as f64 } else { 0.0 };
                let half = f64::from(half_period_epochs.unwrap_or(self.epochs));
                let turn = std::f64::consts::PI * (f64::from(epoch) + within) / half;
                least_factor + (1.0 - least_factor) * (1.0 + turn.cos()) / 2.0
            }
            settings::Schedule::Step { every_epochs, factor } => factor.powi((epoch / every_epochs) as i32),
            settings::Schedule::Plateau { .. } => plateau.factor,
        };
        warm * of_rule
    }

    /// Tells a plateau of a validation.
    pub fn validated(&self, is_better: bool, plateau: &mut Plateau) {
        let settings::Schedule::Plateau { patience_validations, factor, least_factor } = self.rule else { return };
        plateau.waited = if is_better { 0 } else { plateau.waited + 1 };
        if plateau.waited > patience_validations {
            plateau.factor = (plateau.factor * factor).max(least_factor);
            plateau.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rule: settings::Schedule, warm_up_steps: u64) -> Schedule {
        Schedule { rule, warm_up_steps, epochs: 10 }
    }

    fn at(schedule: &Schedule, epoch: u32, step: u64) -> f64 {
        schedule.factor(u64::from(epoch) * 4 + step, epoch, (step, 4), &Plateau::default())
    }

    #[test]
    fn warm_up_rises_in_a_straight_line_to_one() {
        let s = schedule(settings::Schedule::Constant {}, 4);
        assert_eq!([at(&s, 0, 0), at(&s, 0, 1), at(&s, 0, 3), at(&s, 1, 0)], [0.25, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn a_cosine_goes_down_and_up_again() {
        let cosine = |half_period_epochs, per_step| settings::Schedule::Cosine {
            half_period_epochs,
            least_factor: 0.1,
            per_step,
        };
        let s = schedule(cosine(Some(5), false), 0);
        assert!((at(&s, 0, 3) - 1.0).abs() < 1e-12 && (at(&s, 5, 0) - 0.1).abs() < 1e-12);
        assert!((at(&s, 4, 0) - at(&s, 6, 0)).abs() < 1e-12);
        let s = schedule(cosine(None, true), 0);
        assert!((at(&s, 5, 0) - 0.55).abs() < 1e-12 && at(&s, 5, 1) < 0.55 && at(&s, 9, 3) > 0.1);
    }

    #[test]
    fn steps_go_down_every_so_many_epochs() {
        let s = schedule(settings::Schedule::Step { every_epochs: 3, factor: 0.5 }, 0);
        assert_eq!([2, 3, 5, 6].map(|e| at(&s, e, 0)), [1.0, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn a_plateau_goes_down_when_patience_is_at_its_end() {
        let rule = settings::Schedule::Plateau { patience_validations: 1, factor: 0.1, least_factor: 0.05 };
        let (s, mut plateau) = (schedule(rule, 0), Plateau::default());
        let mut factors = vec![];
        for is_better in [true, false, false, false, true, false, false] {
            s.validated(is_better, &mut plateau);
            factors.push(plateau.factor);
        }
        assert_eq!(factors, [1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.05]);
    }
}
