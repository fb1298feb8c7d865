//! What the process is told and given by its surroundings.
//!
//! Owns: [`Environment`]. Must not know: keys.

/// The surroundings of a run, as far as its configuration depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `WSI_RUN_THREADS`.
    pub threads: Option<String>,
    /// CPUs this process may use.
    pub cpus: u32,
}

impl Environment {
    /// The surroundings of this process.
    pub fn read() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.trim().parse::<u32>().ok();
        // Counts the affinity mask and the quotas of cgroup v1 and v2.
        let allowed = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let cpus = cpus_of(allowed, number("SLURM_CPUS_PER_TASK"), number("SLURM_CPUS_ON_NODE"));
        Self { threads: std::env::var("WSI_RUN_THREADS").ok(), cpus }
    }
}

/// The least of what the kernel allows and what Slurm granted: clusters without cgroups only tell.
fn cpus_of(allowed: u32, per_task: Option<u32>, on_node: Option<u32>) -> u32 {
    let granted = per_task.or(on_node).filter(|n| *n > 0).unwrap_or(u32::MAX);
    allowed.min(granted).clamp(1, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_can_only_lower_the_number_of_cpus() {
        assert_eq!(cpus_of(64, None, None), 64);
        assert_eq!(cpus_of(64, Some(8), Some(32)), 8);
        assert_eq!(cpus_of(64, None, Some(32)), 32);
        assert_eq!(cpus_of(4, Some(8), None), 4);
        assert_eq!(cpus_of(4, Some(0), None), 4);
    }
}
