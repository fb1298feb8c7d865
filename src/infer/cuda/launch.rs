//! Kernel launches as data.
//!
//! Owns: [`Launch`], [`Region`], [`Format`], how launches are written to a file for the emulation. Must not know: plans,
//! drivers.

use half::{bf16, f16};
use std::io::{self, Write};

/// A piece of memory of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// Weights and tables: the same for all batches.
    Weights,
    /// Maps between steps: every image's arena, one after the other.
    Arena,
    /// The images' bytes.
    Pixels,
    /// Results of slabs, in f32.
    Partial,
    /// Head maps in fixed point.
    Heads,
    /// What is done to each image's colours, and tables for it.
    Stain,
    /// Where maps are added, or sums are read.
    Canvas,
}

impl Region {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Weights, Self::Arena, Self::Pixels, Self::Partial, Self::Heads, Self::Stain, Self::Canvas];
}

/// A place that becomes an address when the launch is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// Byte of the argument at which the address is written.
    pub at: usize,
    /// The piece of memory.
    pub region: Region,
    /// Byte of it.
    pub offset: u64,
}

/// One kernel launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The kernel.
    pub kernel: &'static str,
    /// Blocks on each axis.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The kernel's one argument, a struct; addresses are 0.
    pub argument: Vec<u8>,
    /// Where addresses go.
    pub pointers: Vec<Pointer>,
    /// Which step of the plan it is for.
    pub step: usize,
}

impl Launch {
    /// The argument with addresses, for regions that start at `bases`.
    pub fn bound(&self, bases: &dyn Fn(Region) -> u64) -> Vec<u8> {
        let mut bytes = self.argument.clone();
        for p in &self.pointers {
            bytes[p.at..p.at + 8].copy_from_slice(&(bases(p.region) + p.offset).to_le_bytes());
        }
        bytes
    }
}

/// Numbers of the maps and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE half: 11 bits of mantissa, up to 65504.
    Half,
    /// Brain float: 8 bits of mantissa, the range of f32.
    Bf16,
}

impl Format {
    /// The bits of a number; what a half cannot hold becomes its largest.
    pub fn bits(self, value: f32) -> u16 {
        match self {
            Self::Half => f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits(),
            Self::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    /// The number of some bits.
    pub fn value(self, bits: u16) -> f32 {
        match self {
            Self::Half => f16::from_bits(bits).to_f32(),
            Self::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }

    /// Name in messages and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Half => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Writes what the emulation runs: the regions' bytes, in the order of [`Region::ALL`], and the launches.
///
/// # Errors
/// When `to` cannot be written.
pub fn write_job(to: &mut dyn Write, regions: &[Vec<u8>], launches: &[Launch]) -> io::Result<()> {
    let word = |to: &mut dyn Write, v: u64| to.write_all(&v.to_le_bytes());
    word(to, regions.len() as u64)?;
    for region in regions {
        word(to, region.len() as u64)?;
        to.write_all(region)?;
    }
    word(to, launches.len() as u64)?;
    for launch in launches {
        word(to, launch.kernel.len() as u64)?;
        to.write_all(launch.kernel.as_bytes())?;
        let [x, y, z] = launch.grid.map(u64::from);
        for v in [x, y, z, u64::from(launch.threads), u64::from(launch.shared_bytes), launch.argument.len() as u64] {
            word(to, v)?;
        }
        to.write_all(&launch.argument)?;
        word(to, launch.pointers.len() as u64)?;
        for p in &launch.pointers {
            let region = Region::ALL.iter().position(|r| *r == p.region).unwrap_or(0);
            for v in [p.at as u64, region as u64, p.offset] {
                word(to, v)?;
            }
        }
    }
    Ok(())
}
