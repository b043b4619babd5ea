use std::{collections::HashSet, fs, thread};

/// Physical cores that this process may use: its affinity and its cgroup's quota (v1 and v2) count, hyper-threads do not.
///
/// A quota is rounded down, 150 % is one core: a team that uses all of it would be stopped, and JavaScript with it, for
/// the rest of each period.
pub fn available_cores() -> usize {
    // The standard library knows affinities and quotas.
    let logical = thread::available_parallelism().map_or(1, |n| n.get());
    let physical = if cfg!(target_os = "linux") { physical_cores(&|path| fs::read_to_string(path).ok()) } else { None };
    physical.map_or(logical, |cores| cores.clamp(1, logical))
}

/// Distinct (package, core) pairs among the allowed processors, from the files that Linux tells them in.
fn physical_cores(read: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let status = read("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = HashSet::new();
    for part in allowed.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for cpu in first.parse::<usize>().ok()?..=last.parse().ok()? {
            let number = |what| read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}"));
            cores.insert((number("physical_package_id")?, number("core_id")?));
        }
    }
    Some(cores.len())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Two packages of two cores of two hyper-threads: 0 and 4 share a core, 1 and 5, and so on.
    fn machine(allowed: &str) -> impl Fn(&str) -> Option<String> {
        let status = format!("Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\nMems_allowed_list:\t0\n");
        move |path| {
            if path == "/proc/self/status" {
                return Some(status.clone());
            }
            let (cpu, what) = path.strip_prefix("/sys/devices/system/cpu/cpu")?.split_once("/topology/")?;
            let cpu: usize = cpu.parse().ok().filter(|&cpu| cpu < 8)?;
            Some(format!("{}\n", if what == "core_id" { cpu % 2 } else { cpu / 2 % 2 }))
        }
    }

    #[test]
    fn hyper_threads_of_one_core_count_once() {
        for (allowed, cores) in [("0-7", 4), ("0-3", 4), ("0,4", 1), ("1-2,5", 2), ("7", 1)] {
            assert_eq!(physical_cores(&machine(allowed)), Some(cores), "{allowed}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        assert_eq!(physical_cores(&|_| None), None);
        assert_eq!(physical_cores(&machine("0-8")), None);
        assert_eq!(physical_cores(&machine("all")), None);
        assert!(available_cores() >= 1);
    }
}
