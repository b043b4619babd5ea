//! The first process of the machine that `test-avx512.sh` emulates: runs the tests, says how they ended, switches off.
use std::{arch::asm, fs, process::Command, thread, time::Duration};

unsafe extern "C" {
    /// See ioperm(2).
    fn ioperm(from: u64, count: u64, turn_on: i32) -> i32;
}

/// Says which of the features that tiers need the processor has and Linux allows.
macro_rules! print_features {
    ($($name:tt)*) => {$(
        if is_x86_feature_detected!($name) {
            print!("{} ", $name);
        }
    )*};
}

fn main() {
    print_features!("avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx512vbmi" "gfni");
    println!();
    let arguments = fs::read_to_string("/arguments").unwrap();
    let (cases, arguments) = arguments.split_once('\n').unwrap();
    let ended = Command::new("/tests").args(arguments.lines()).env("PROPTEST_CASES", cases).status();
    match ended {
        Ok(status) => println!("\ntests ended: {status}"),
        Err(error) => println!("\ntests ended: {error}"),
    }
    // The serial port is as slow as a real one.
    thread::sleep(Duration::from_millis(100));
    // Bochs ends when this word is written to this port (its "unmapped" device).
    const PORT: u16 = 0x8900;
    // SAFETY: the first process may use all ports; nothing else is behind this one.
    unsafe {
        assert_eq!(ioperm(PORT.into(), 1, 1), 0);
        for byte in *b"Shutdown" {
            asm!("out dx, al", in("dx") PORT, in("al") byte, options(nomem, nostack, preserves_flags));
        }
    }
}
