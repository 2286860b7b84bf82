//! What a fuzzer does, on stable Rust and without a search: runs a parser on its seeds and on some thousand mutations of them,
//! the same ones every time, and counts the memory that it takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

/// A parser, what it is tried on, and what it may take.
pub struct Parser {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Panics where something that must hold does not; whether the input was understood.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that reach far into it, and some that lie; the first one is understood.
    pub seeds: Vec<Vec<u8>>,
    /// How many mutations it is tried on.
    pub mutations: usize,
    /// Bytes of memory that it may take for a file of no bytes, and for every byte of its file.
    pub memory: (usize, usize),
}

impl Parser {
    /// A parser of its fields.
    pub fn new(
        name: &'static str,
        run: fn(&[u8]) -> bool,
        seeds: Vec<Vec<u8>>,
        mutations: usize,
        memory: (usize, usize),
    ) -> Self {
        Self { name, run, seeds, mutations, memory }
    }

    /// Fails if the parser panics, or takes more memory than it may, on any input.
    pub fn shake(&self) {
        let understood = self.seeds.iter().map(|seed| self.try_on(seed)).collect::<Vec<_>>();
        assert_eq!(understood.first(), Some(&true), "{}", self.name);
        let mut random = Random(1);
        for round in 0..self.mutations {
            let mut input = self.seeds[round % self.seeds.len()].clone();
            // One change reaches furthest, and some mistakes take several.
            for _change in 0..1 + random.below(1 + round % 6) {
                let other = &self.seeds[random.below(self.seeds.len())];
                change(&mut input, other, &mut random);
            }
            self.try_on(&input);
        }
    }

    /// Fails if the parser panics on this input, or takes more memory than it may. Whether it understood.
    pub fn try_on(&self, input: &[u8]) -> bool {
        MEMORY.with(|memory| memory.set(Memory::default()));
        let outcome = catch_unwind(|| (self.run)(input));
        let peak = MEMORY.with(Cell::get).peak as usize;
        let understood =
            outcome.unwrap_or_else(|_| panic!("{}: the input is\nb\"{}\"", self.name, input.escape_ascii()));
        let (base, each) = self.memory;
        let allowed = base + each * input.len();
        assert!(
            peak <= allowed,
            "{}: {peak} bytes of memory for {} bytes, {allowed} are allowed; the input is\nb\"{}\"",
            self.name,
            input.len(),
            input.escape_ascii()
        );
        understood
    }

    /// Writes the seeds where `cargo fuzz` looks for them.
    pub fn write_seeds(&self, corpus: &str) {
        let folder = PathBuf::from(corpus).join(self.name);
        fs::create_dir_all(&folder).expect("a folder for seeds");
        for (number, seed) in self.seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed");
        }
    }
}

/// Numbers that are special to somebody.
const INTERESTING: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];
/// The same, where numbers are written in digits.
const WRITTEN: [&str; 8] =
    ["0", "-1", "1e9", "4294967296", "9223372036854775807", "18446744073709551616", "1e400", "nan"];

/// Changes the bytes in one way of several.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let length = bytes.len();
    let at = random.below(length + 1);
    let until = length.min(at + 1 + random.below(16));
    match random.below(10) {
        0 | 1 if at < length => bytes[at] ^= 1 << random.below(8),
        2 if at < length => bytes[at] = random.below(256) as u8,
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..until)),
        5 => {
            let inserted: Vec<u8> = (0..1 + random.below(8)).map(|_| random.below(256) as u8).collect();
            drop(bytes.splice(at..at, inserted));
        }
        6 => {
            // A piece once more, in place or elsewhere.
            let piece = bytes[at..until].to_vec();
            let to = random.below(length + 1);
            drop(bytes.splice(to..to, piece));
        }
        7 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let mut number = INTERESTING[random.below(INTERESTING.len())].wrapping_add(random.below(3) as u64);
            if random.below(3) == 0 {
                number = length as u64;
            }
            let mut number = number.to_le_bytes()[..width].to_vec();
            if random.below(2) == 0 {
                number.reverse();
            }
            let until = length.min(at + width);
            drop(bytes.splice(at..until, number));
        }
        8 => {
            // A number in digits becomes another.
            let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let starts: Vec<usize> = (0..length).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if let Some(&start) = starts.get(random.below(starts.len().max(1))) {
                let until = start + digits(&bytes[start..]);
                drop(bytes.splice(start..until, WRITTEN[random.below(WRITTEN.len())].bytes()));
            }
        }
        9 => {
            // The end of another seed.
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {}
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// What a thread has allocated since it was set to zero.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    now: isize,
    peak: isize,
}

thread_local!(static MEMORY: Cell<Memory> = const { Cell::new(Memory { now: 0, peak: 0 }) });

/// The system's allocator, which counts what each thread holds.
pub struct Counting;

fn count(change: isize) {
    // A thread that ends has no place for its count any more.
    let _ = MEMORY.try_with(|memory| {
        let Memory { now, peak } = memory.get();
        let now = now + change;
        memory.set(Memory { now, peak: peak.max(now) });
    });
}

// SAFETY: all is the system's allocator's; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
