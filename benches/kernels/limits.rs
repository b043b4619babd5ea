//! What the machine can do at best: reading memory, and the multiply-add instructions of the tier in use.
use crate::burst;
use realm_node::{
    compute::{Lane, Phase, Team},
    kernels,
};
use std::hint::black_box;

#[derive(Clone, Copy, PartialEq)]
pub enum Limit {
    /// Bytes from memory.
    Read,
    /// Operations on 8-bit integers, with the instructions that give sums of 32 bits.
    Integer,
    /// Products of 8 bits with sums of 16 bits only: what a kernel could reach that never had to widen.
    Narrow,
    Float,
}

pub struct Limits {
    memory: Vec<u64>,
    machine: Machine,
}

/// The instructions of the tier in use: a loop of them, and its operations per turn.
#[derive(Clone, Copy)]
struct Machine {
    integer: (fn(u64), f64),
    narrow: Option<(fn(u64), f64)>,
    float: (fn(u64), f64),
}

/// Larger than any cache of today.
const MEMORY: usize = 512 << 20;
const TURNS: u64 = 200_000;

impl Limit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Integer => "integer multiply-add",
            Self::Narrow => "integer, 16-bit sums",
            Self::Float => "float multiply-add",
        }
    }
}

impl Limits {
    pub fn new() -> Self {
        // Written, so that every page is there.
        Self { memory: (0..MEMORY as u64 / 8).collect(), machine: machine() }
    }

    /// 1e9 per second.
    pub fn rate(&self, team: &Team, limit: Limit) -> f64 {
        let operations = |(turns, each): (fn(u64), f64)| {
            let phase = Turns { turns, chunks: team.threads() };
            burst(&mut || team.run(&[&phase]).expect("does not panic")) * each * (TURNS as usize * phase.chunks) as f64
                / 1e9
        };
        match limit {
            Limit::Read => {
                // Which of them is faster depends on the processor.
                let rates = [0, 6 << 10].map(|ahead| {
                    let phase = Read { memory: &self.memory, ahead };
                    burst(&mut || team.run(&[&phase]).expect("does not panic")) * MEMORY as f64 / 1e9
                });
                rates[0].max(rates[1])
            }
            Limit::Integer => operations(self.machine.integer),
            Limit::Narrow => operations(self.machine.narrow.unwrap_or(self.machine.integer)),
            Limit::Float => operations(self.machine.float),
        }
    }

    pub fn print(&self, team: &Team) {
        let one = Team::new(1);
        for limit in [Limit::Read, Limit::Integer, Limit::Narrow, Limit::Float] {
            if limit == Limit::Narrow && self.machine.narrow.is_none() {
                continue;
            }
            let name = format!("limit: {}", limit.name());
            let (alone, all) = (self.rate(&one, limit), self.rate(team, limit));
            println!("| {name:<36} | {all:>9.1} | {alone:>9.1} {:<22} | {:>7} |", "with one thread", "");
        }
    }
}

struct Read<'a> {
    memory: &'a [u64],
    /// By how many bytes each line is asked for before it is read, unless 0.
    ahead: usize,
}

impl Phase for Read<'_> {
    fn chunks(&self) -> usize {
        self.memory.len().div_ceil(1 << 15)
    }

    fn run(&self, chunk: usize, _: &mut Lane) {
        let part = &self.memory[chunk << 15..self.memory.len().min((chunk + 1) << 15)];
        // From four places in turn: on Zen 3, that is 1.3 times as fast as from one.
        let mut runs = part.chunks(part.len() / 4).map(|run| run.as_chunks::<16>().0);
        let runs: [_; 4] = std::array::from_fn(|_| runs.next().expect("a chunk has quarters"));
        // Several sums, or the additions would wait for each other.
        let mut sums = [0_u64; 16];
        for i in 0..runs[0].len() {
            for run in runs {
                ask(run[i].as_ptr(), self.ahead);
                for (sum, x) in sums.iter_mut().zip(&run[i]) {
                    *sum = sum.wrapping_add(*x);
                }
            }
        }
        black_box(sums);
    }
}

/// Asks for what lies so far after two lines; and for what lies twice as far into the second-level cache, which can wait for
/// more than the first.
fn ask(p: *const u64, ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    if ahead > 0 {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        for line in 0..2 {
            // SAFETY: a prefetch reads nothing that the program sees, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(p.wrapping_byte_add(2 * ahead + 64 * line).cast());
                _mm_prefetch::<_MM_HINT_T0>(p.wrapping_byte_add(ahead + 64 * line).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, ahead);
}

struct Turns {
    turns: fn(u64),
    chunks: usize,
}

impl Phase for Turns {
    fn chunks(&self) -> usize {
        self.chunks
    }

    fn run(&self, _: usize, _: &mut Lane) {
        (self.turns)(TURNS);
    }
}

/// A function that takes turns of twelve independent chains; the first instruction clears the registers,
/// as numbers next to zero would be slow.
#[cfg(target_arch = "x86_64")]
macro_rules! turns {
    ($name:ident, $first:literal, $($line:expr),+) => {
        fn $name(turns: u64) {
            // SAFETY: only registers are touched; `machine` chooses instructions that the processor has.
            unsafe {
                std::arch::asm!($first, "2:", $($line,)+ "dec {n}", "jnz 2b", n = inout(reg) turns => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nomem, nostack));
            }
        }
    };
}

/// The same instruction on twelve accumulators.
#[cfg(target_arch = "x86_64")]
macro_rules! twelve {
    ($name:ident, $operation:literal, $r:literal) => {
        twelve!(@ $name, $operation, $r, "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    };
    (@ $name:ident, $operation:literal, $r:literal, $($i:literal)+) => {
        turns!($name, "vzeroall", $(concat!($operation, " ", $r, $i, ", ", $r, "14, ", $r, "15")),+);
    };
}

#[cfg(target_arch = "x86_64")]
fn machine() -> Machine {
    twelve!(dot_zmm, "vpdpbusd", "zmm");
    twelve!(dot_ymm, "{{vex}} vpdpbusd", "ymm");
    twelve!(narrow_zmm, "vpmaddubsw", "zmm");
    twelve!(narrow_ymm, "vpmaddubsw", "ymm");
    twelve!(float_zmm, "vfmadd231ps", "zmm");
    twelve!(float_ymm, "vfmadd231ps", "ymm");
    // To sums of 32 bits without VNNI: products to pairs, pairs to fours, add.
    turns!(
        wide_ymm,
        "vzeroall",
        "vpmaddubsw ymm0, ymm14, ymm15",
        "vpmaddubsw ymm1, ymm14, ymm15",
        "vpmaddubsw ymm2, ymm14, ymm15",
        "vpmaddubsw ymm3, ymm14, ymm15",
        "vpmaddwd ymm0, ymm0, ymm13",
        "vpmaddwd ymm1, ymm1, ymm13",
        "vpmaddwd ymm2, ymm2, ymm13",
        "vpmaddwd ymm3, ymm3, ymm13",
        "vpaddd ymm4, ymm4, ymm0",
        "vpaddd ymm5, ymm5, ymm1",
        "vpaddd ymm6, ymm6, ymm2",
        "vpaddd ymm7, ymm7, ymm3"
    );
    turns!(
        wide_zmm,
        "vzeroall",
        "vpmaddubsw zmm0, zmm14, zmm15",
        "vpmaddubsw zmm1, zmm14, zmm15",
        "vpmaddubsw zmm2, zmm14, zmm15",
        "vpmaddubsw zmm3, zmm14, zmm15",
        "vpmaddwd zmm0, zmm0, zmm13",
        "vpmaddwd zmm1, zmm1, zmm13",
        "vpmaddwd zmm2, zmm2, zmm13",
        "vpmaddwd zmm3, zmm3, zmm13",
        "vpaddd zmm4, zmm4, zmm0",
        "vpaddd zmm5, zmm5, zmm1",
        "vpaddd zmm6, zmm6, zmm2",
        "vpaddd zmm7, zmm7, zmm3"
    );
    fn scalar(turns: u64) {
        turns!(
            mul,
            "xorps xmm15, xmm15",
            "mulss xmm0, xmm15",
            "addss xmm1, xmm15",
            "mulss xmm2, xmm15",
            "addss xmm3, xmm15"
        );
        mul(turns);
    }
    // Bytes of a register, each multiplied and added, in each of the instructions of a turn.
    let turn = |bytes: usize, instructions: usize| (2 * bytes * instructions) as f64;
    match kernels::tier().name {
        "avx512-vnni" => Machine { integer: (dot_zmm, turn(64, 12)), narrow: None, float: (float_zmm, turn(16, 12)) },
        "avx512" => Machine {
            integer: (wide_zmm, turn(64, 4)),
            narrow: Some((narrow_zmm, turn(64, 12))),
            float: (float_zmm, turn(16, 12)),
        },
        "avx2-vnni" => Machine { integer: (dot_ymm, turn(32, 12)), narrow: None, float: (float_ymm, turn(8, 12)) },
        "avx2" => Machine {
            integer: (wide_ymm, turn(32, 4)),
            narrow: Some((narrow_ymm, turn(32, 12))),
            float: (float_ymm, turn(8, 12)),
        },
        _ => Machine { integer: (scalar, 4.0), narrow: None, float: (scalar, 4.0) },
    }
}

#[cfg(target_arch = "aarch64")]
fn machine() -> Machine {
    macro_rules! turns {
        ($name:ident, $operation:literal, $from:literal, $to:literal, $($i:literal)+) => {
            fn $name(turns: u64) {
                // SAFETY: only registers are touched; the instructions are chosen by the tier.
                unsafe {
                    std::arch::asm!(".arch_extension dotprod", "2:",
                        $(concat!($operation, " v", $i, ".", $to, ", v30.", $from, ", v31.", $from),)+
                        "subs {n}, {n}, #1", "b.ne 2b", n = inout(reg) turns => _,
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                        out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, options(nomem, nostack));
                }
            }
        };
    }
    turns!(dot, "sdot", "16b", "4s", "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    turns!(long, "smlal", "4h", "4s", "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    turns!(float, "fmla", "4s", "4s", "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11");
    let integer =
        if kernels::tier().name == "neon-dotprod" { (dot as fn(u64), 384.0) } else { (long as fn(u64), 96.0) };
    Machine { integer, narrow: None, float: (float, 96.0) }
}
