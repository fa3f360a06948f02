//! MD5 (RFC 1321) for the kernel program, a block at a time. For digest authentication alone, which names it; nothing else here relies on it.

/// Before the first block.
pub const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// Bytes of a block.
pub const BLOCK: usize = 64;

/// How many blocks a text of so many bytes has, with what goes behind it: a byte of 0x80, zeros, and the length in bits in the last eight
/// bytes (RFC 1321, 3.1 and 3.2).
#[inline(always)]
#[must_use]
pub const fn blocks(len: usize) -> usize {
    (len + 8) / BLOCK + 1
}

/// Binary integer parts of the sines (RFC 1321, 3.4).
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// Sixteen steps, written out: the kernel program has no room for a loop of them, nor for the state in memory.
macro_rules! sixteen {
    ($round:ident, $word:ident, $state:ident) => {
        sixteen!(@ $round, $word, $state, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $round:ident, $word:ident, $state:ident, $($n:literal)+) => { $( $state = $round($state, $n, &$word); )+ };
}

macro_rules! round {
    ($name:ident, $nth:literal, |$b:ident, $c:ident, $d:ident| $mixed:expr, |$n:ident| $index:expr) => {
        #[inline(always)]
        fn $name([a, $b, $c, $d]: [u32; 4], $n: usize, word: &impl Fn(usize) -> u32) -> [u32; 4] {
            let sum = a
                .wrapping_add($mixed)
                .wrapping_add(word($index & 15))
                .wrapping_add(SINES[16 * $nth + $n]);
            [$d, $b.wrapping_add(sum.rotate_left(ROTATIONS[$nth][$n & 3])), $b, $c]
        }
    };
}
round!(first, 0, |b, c, d| d ^ (b & (c ^ d)), |n| n);
round!(second, 1, |b, c, d| c ^ (d & (b ^ c)), |n| 5 * n + 1);
round!(third, 2, |b, c, d| b ^ c ^ d, |n| 3 * n + 5);
round!(fourth, 3, |b, c, d| c ^ (b | !d), |n| 7 * n);

/// The state behind one more block, whose sixteen little-endian words `word` gives.
#[inline(always)]
#[must_use]
pub fn compress(before: [u32; 4], word: impl Fn(usize) -> u32) -> [u32; 4] {
    let mut state = before;
    sixteen!(first, word, state);
    sixteen!(second, word, state);
    sixteen!(third, word, state);
    sixteen!(fourth, word, state);
    [
        before[0].wrapping_add(state[0]),
        before[1].wrapping_add(state[1]),
        before[2].wrapping_add(state[2]),
        before[3].wrapping_add(state[3]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md5(text: &[u8]) -> String {
        let mut padded = text.to_vec();
        padded.push(0x80);
        padded.resize(blocks(text.len()) * BLOCK - 8, 0);
        padded.extend((8 * text.len() as u64).to_le_bytes());
        let mut state = START;
        for block in padded.chunks_exact(BLOCK) {
            state = compress(state, |n| {
                u32::from_le_bytes([block[4 * n], block[4 * n + 1], block[4 * n + 2], block[4 * n + 3]])
            });
        }
        state.iter().map(|word| format!("{:08x}", word.swap_bytes())).collect()
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        // RFC 1321, A.5.
        for (text, sum) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(md5(text.as_bytes()), sum);
        }
    }

    #[test]
    fn a_block_is_begun_where_the_length_has_no_room() {
        for (len, wanted) in [(0, 1), (55, 1), (56, 2), (64, 2), (119, 2), (120, 3)] {
            assert_eq!(blocks(len), wanted, "{len}");
        }
    }
}
