//! What the operating system is asked for: where threads run and may run. Elsewhere than on Linux it is not asked.
#[cfg(all(target_os = "linux", not(miri), not(all(test, loom))))]
mod imp {
    use std::{
        mem::{size_of, zeroed},
        time::{Duration, Instant},
    };

    /// A thread of this process.
    #[derive(Clone, Copy)]
    pub struct Thread {
        id: libc::pid_t,
        /// Its clock stands still while it does not run.
        clock: libc::clockid_t,
    }

    #[derive(Clone, Copy)]
    pub struct CpuSet(libc::cpu_set_t);

    impl CpuSet {
        pub fn contains(&self, cpu: usize) -> bool {
            // SAFETY: in range.
            cpu < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(cpu, &self.0) }
        }

        fn only(cpu: usize) -> Self {
            // SAFETY: all zeros are the empty set, and CPU_SET ignores what is out of range.
            unsafe {
                let mut set = zeroed();
                libc::CPU_SET(cpu, &mut set);
                Self(set)
            }
        }
    }

    pub fn this_thread() -> Thread {
        thread_local! {
            static THREAD: Thread = {
                let mut clock = 0;
                // SAFETY: asks about the calling thread.
                unsafe {
                    libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock);
                    // Not `gettid`: glibc has it only since 2.30.
                    Thread { id: libc::syscall(libc::SYS_gettid) as libc::pid_t, clock }
                }
            };
        }
        THREAD.with(|thread| *thread)
    }

    pub fn this_core() -> Option<usize> {
        // SAFETY: takes nothing.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// Has it a core? When its clock cannot be read, it is taken to have.
    pub fn has_core(thread: &Thread) -> bool {
        let read = || {
            // SAFETY: the time is written in place.
            unsafe {
                let mut time: libc::timespec = zeroed();
                (libc::clock_gettime(thread.clock, &mut time) == 0).then_some((time.tv_sec, time.tv_nsec))
            }
        };
        let Some(before) = read() else { return true };
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(5) {
            std::hint::spin_loop();
        }
        read() != Some(before)
    }

    pub fn allowed(thread: &Thread) -> Option<CpuSet> {
        // SAFETY: the set is written in place.
        unsafe {
            let mut set = zeroed();
            (libc::sched_getaffinity(thread.id, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(CpuSet(set))
        }
    }

    pub fn allow(thread: &Thread, set: &CpuSet) {
        // SAFETY: the set is read only. What is refused leaves the thread where it is.
        unsafe { libc::sched_setaffinity(thread.id, size_of::<libc::cpu_set_t>(), &set.0) };
    }

    pub fn move_to(thread: &Thread, cpu: usize) {
        allow(thread, &CpuSet::only(cpu));
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(all(test, loom)))))]
mod imp {
    #[derive(Clone, Copy)]
    pub struct Thread;
    #[derive(Clone, Copy)]
    pub struct CpuSet;
    impl CpuSet {
        pub fn contains(&self, _: usize) -> bool {
            false
        }
    }
    pub fn this_thread() -> Thread {
        Thread
    }
    pub fn this_core() -> Option<usize> {
        None
    }
    pub fn has_core(_: &Thread) -> bool {
        true
    }
    pub fn allowed(_: &Thread) -> Option<CpuSet> {
        None
    }
    pub fn allow(_: &Thread, _: &CpuSet) {}
    pub fn move_to(_: &Thread, _: usize) {}
}

pub use imp::*;
