//! The text of a challenge: what `sip::Response` of the agent writes, from the same request.

use core::arch::asm;

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel};
use sipauth_common::{
    address::Address,
    challenge::{Challenge, Nonce, hex},
    sip::{self, OWN_TAG},
};

use super::{
    REQUEST_ROOM,
    headers::{Header, place},
    response,
    search::{Request, sipauth_seek},
};
use crate::maps::{CHALLENGE, CONFIG, SCRATCH};

/// A longer response is the agent's: this one could not be sent in fragments.
const MAX: usize = 1_300;

/// The response in the making.
struct Text {
    bytes: *mut u8,
    len: usize,
}

impl Text {
    /// Where the next piece goes; the first half of the draft, so that any piece has room.
    #[inline(always)]
    fn next(&self) -> *mut u8 {
        let mut at = self.len;
        // SAFETY: masks a register, see `search::Request::word`; the result is inside the draft.
        unsafe {
            asm!("{at} &= 2047", at = inout(reg) at, options(nomem, nostack));
            self.bytes.add(at)
        }
    }

    /// Appends `len` bytes that are at an address.
    #[inline(always)]
    fn copy(&mut self, from: usize, len: usize) -> Option<()> {
        let mut n = len;
        // SAFETY: masks a register, see `search::Request::word`.
        unsafe { asm!("{n} &= 2047", n = inout(reg) n, options(nomem, nostack)) };
        if n != len || self.len + n > MAX {
            return None;
        }
        // SAFETY: `n` bytes from the first half of the draft on are inside it; the helper takes any address to read from.
        if unsafe { bpf_probe_read_kernel(self.next().cast(), n as u32, from as *const _) } != 0 {
            return None;
        }
        self.len += n;
        Some(())
    }

    /// Appends a part of the request.
    #[inline(always)]
    fn request(&mut self, from: usize, to: usize) -> Option<()> {
        if from > to || to > REQUEST_ROOM {
            return None;
        }
        self.copy(Request::get()?.address() + from, to - from)
    }

    /// Appends the first `n` bytes of a word.
    #[inline(always)]
    fn word(&mut self, word: u64, n: usize) {
        // SAFETY: eight bytes from the first half of the draft on are inside it. In assembly, since the compiler would write an
        // unaligned word byte by byte.
        unsafe { asm!("*(u64 *)({to} + 0) = {word}", to = in(reg) self.next(), word = in(reg) word.to_le(), options(nostack)) };
        self.len += n;
    }

    /// Appends a number in 16 hex digits.
    #[inline(always)]
    fn hex(&mut self, number: u64) {
        self.word(hex((number >> 32) as u32), 8);
        self.word(hex(number as u32), 8);
    }

    #[inline(always)]
    fn decimal(&mut self, number: u32) {
        let digits = sipauth_decimal(number);
        self.word(digits & 0xff_ffff_ffff, (digits >> 56) as usize & 7);
    }

    /// Appends an address, of IPv6 without leaving out zeros.
    #[inline(always)]
    fn address(&mut self, address: &Address) {
        if let Some(v4) = address.v4() {
            let v4 = u32::from_be(v4);
            for shift in [24, 16, 8, 0] {
                self.decimal(v4 >> shift & 0xff);
                if shift > 0 {
                    self.word(u64::from(b'.'), 1);
                }
            }
            return;
        }
        for (i, part) in address.0.iter().enumerate() {
            let digits = hex(u32::from_be(*part));
            if i > 0 {
                self.word(u64::from(b':'), 1);
            }
            self.word(digits & 0xffff_ffff | u64::from(b':') << 32, 5);
            self.word(digits >> 32, 4);
        }
    }
}

/// The decimal digits of a 16-bit number, the first in the lowest byte, and how many there are, in the highest.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_decimal(number: u32) -> u64 {
    let (mut digits, mut n, mut rest) = (0_u64, 0_u64, number & 0xffff);
    for _ in 0..5 {
        digits = digits << 8 | u64::from(b'0' as u32 + rest % 10);
        rest /= 10;
        n += 1;
        if rest == 0 {
            break;
        }
    }
    digits | n << 56
}

/// Writes the challenge to the request in the map; `call` makes its To tag. The length, or 0 where it is for the agent.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_compose(call: u64) -> u32 {
    match (CHALLENGE.get(0), response()) {
        (Some(challenge), Some(bytes)) => match write(challenge, Text { bytes, len: 0 }, call) {
            Some(text) => text.len as u32,
            None => 0,
        },
        _ => 0,
    }
}

#[inline(always)]
fn write(challenge: &Challenge, mut text: Text, call: u64) -> Option<Text> {
    text.copy((&raw const challenge.status.bytes) as usize, challenge.status.len as usize)?;
    via(&mut text)?;
    let (from, end) = place(Header::From);
    text.request(from, end)?;
    to(&mut text, call)?;
    let (id, end) = place(Header::CallId);
    text.request(id, end)?;
    let (cseq, end) = place(Header::CSeq);
    text.request(cseq, end)?;
    text.copy((&raw const challenge.before.bytes) as usize, challenge.before.len as usize)?;
    // SAFETY: the helpers have no preconditions.
    let (now, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    let nonce = Nonce::new(now, cpu, challenge.boot_s, challenge.run);
    text.word(u64::from(b'k'), 1);
    text.hex(nonce.serial);
    text.hex(nonce.run);
    text.hex(nonce.mac(challenge.key, &SCRATCH.get(0)?.view.source));
    text.copy((&raw const challenge.behind.bytes) as usize, challenge.behind.len as usize)?;
    // For the checksum, which takes whole words.
    text.word(0, 0);
    (text.len <= MAX).then_some(text)
}

/// The top value gets `received` and `rport` (RFC 3261, 18.2.1; RFC 3581, 4), as the agent's has.
#[inline(always)]
fn via(text: &mut Text) -> Option<()> {
    let (at, top) = (place(Header::Via).0, place(Header::TopVia).1);
    let all = place(Header::Via).1;
    // Several values, or one that a client wrote there.
    if top < 2
        || sipauth_seek(at as u32, top as u32, u64::from(b','), 0xff) != 0
        || sipauth_seek(at as u32, top as u32, sip::pack(b";receive", 0, 8), u64::MAX) != 0
    {
        return None;
    }
    let view = &SCRATCH.get(0)?.view;
    let rport = sipauth_seek(at as u32, top as u32, sip::pack(b";rport", 0, 6), 0xffff_ffff_ffff) as usize;
    let split = if rport == 0 { top - 2 } else { rport + 6 };
    text.request(at, split)?;
    if rport != 0 {
        if !matches!(Request::get()?.word(split)? as u8, b';' | b'\r') {
            return None;
        }
        text.word(u64::from(b'='), 1);
        text.decimal(u32::from(view.source_port));
    }
    text.word(sip::pack(b";receive", 0, 8), 8);
    text.word(sip::pack(b"d=", 0, 2), 2);
    text.address(&view.source);
    text.request(split, all)
}

/// With our tag; what has one already belongs to a dialog, which is not ours to judge.
#[inline(always)]
fn to(text: &mut Text, call: u64) -> Option<()> {
    let (at, end) = place(Header::To);
    if end < 2 || sipauth_seek(at as u32, end as u32, sip::pack(b";tag=", 0, 5), 0xff_ffff_ffff) != 0 {
        return None;
    }
    text.request(at, end - 2)?;
    text.word(u64::from_le_bytes(OWN_TAG), 8);
    text.word(u64::from_le_bytes(CONFIG.get(0)?.own_mark), 8);
    text.hex(call);
    text.word(sip::pack(b"\r\n", 0, 2), 2);
    Some(())
}
