//! The fields of Digest credentials (RFC 3261, 25.1), as far as they are written plainly: each once, without escapes and needless space.

use core::arch::asm;

use sipauth_common::sip;

use super::Draft;
use crate::{
    challenge::{
        headers::{Header, place},
        search::{Request, sipauth_find},
    },
    maps::DRAFT,
};

/// Index into [`Draft`]'s lists.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Username = 0,
    Realm = 1,
    Nonce = 2,
    Uri = 3,
    Response = 4,
    Algorithm = 5,
    Cnonce = 6,
    Qop = 7,
    Nc = 8,
    Opaque = 9,
}

/// A power of two above the last field, and more than there can be.
pub(super) const SLOTS: usize = 16;

/// Where a value stands in the request.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) at: usize,
    pub(super) len: usize,
}

impl Draft {
    /// Of a field that is there.
    #[inline(always)]
    pub(super) const fn value(&self, field: Field) -> Value {
        let at = self.at[field as usize] as usize;
        Value {
            at,
            len: (self.end[field as usize] as usize).wrapping_sub(at),
        }
    }
}

/// Finds the fields in the request's one line of credentials; 0 if they are not plain, or some are missing.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_fields() -> u32 {
    let (Some(draft), Some(request)) = (DRAFT.get_ptr_mut(0), Request::get()) else {
        return 0;
    };
    // SAFETY: this CPU's own element, which no one else uses while this packet is on its way. No reference is kept: `sipauth_field` writes there.
    unsafe { (&raw mut (*draft).proof.end).write([0; SLOTS]) };
    let (line, end) = place(Header::Credentials);
    let Some(first) = first(request, line) else { return 0 };
    if sipauth_find(line as u32, end as u32, b'\\'.into()) != 0 {
        return 0;
    }
    let mut at = first as u32;
    for _ in 0..SLOTS {
        at = sipauth_field(at, end as u32);
        if at == ODD {
            return 0;
        }
        if at == LAST {
            return u32::from(DRAFT.get(0).is_some_and(|draft| complete(&draft.proof)));
        }
    }
    0
}

/// Answers of [`sipauth_field`] that are no offset of a next field.
const ODD: u32 = 0;
const LAST: u32 = u32::MAX;

/// Finds the field at an offset of a line that ends at `end`, and where the next begins. A function that the verifier checks by itself: the ways
/// through it would otherwise be walked for each field anew.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_field(at: u32, end: u32) -> u32 {
    let (Some(draft), Some(request)) = (DRAFT.get_ptr_mut(0), Request::get()) else {
        return ODD;
    };
    // SAFETY: this CPU's own element, as above.
    let draft = unsafe { &mut (*draft).proof };
    let at = at as usize;
    let (Some(name), Some(more)) = (request.lower(at), request.lower(at + 8)) else {
        return ODD;
    };
    let Some((field, behind)) = field(name, more) else { return ODD };
    let from = at + behind;
    let quoted = request.word(from).is_some_and(|word| word as u8 == b'"');
    let (from, to, next) = if quoted {
        let to = sipauth_find(from as u32 + 1, end, b'"'.into()) as usize;
        (from + 1, to, to + 1)
    } else {
        let comma = sipauth_find(from as u32, end, b','.into()) as usize;
        let to = if comma == 0 { (end as usize).wrapping_sub(2) } else { comma };
        (from, to, to)
    };
    let slot = field as usize & (SLOTS - 1);
    let token = matches!(field, Field::Algorithm | Field::Qop | Field::Nc);
    if to < from || !quoted && !token || draft.end[slot] != 0 {
        return ODD;
    }
    draft.at[slot] = from as u32;
    draft.end[slot] = to as u32;
    let Some(follows) = request.word(next) else { return ODD };
    if follows & 0xffff == sip::pack(b"\r\n", 0, 2) {
        return if next + 2 == end as usize { LAST } else { ODD };
    }
    if follows as u8 != b',' {
        return ODD;
    }
    (next + 1 + spaces(follows >> 8)) as u32
}

/// Where the first field of a line begins; `None` if it is of another scheme, or written with more space.
#[inline(always)]
fn first(request: Request, line: usize) -> Option<usize> {
    let word = |n: usize| request.lower(line + 8 * n);
    let own = word(0)? == sip::pack(b"authoriz", 0, 8) && word(1)? & 0xffff_ffff_ffff == sip::pack(b"ation:", 0, 6);
    let proxy = word(0)? == sip::pack(b"proxy-au", 0, 8)
        && word(1)? == sip::pack(b"thorizat", 0, 8)
        && word(2)? & 0xffff_ffff == sip::pack(b"ion:", 0, 4);
    let value = if own {
        line + 14
    } else if proxy {
        line + 20
    } else {
        return None;
    };
    let scheme = value + spaces(request.word(value)?);
    if scheme == value || request.lower(scheme)? & 0xffff_ffff_ffff != sip::pack(b"digest", 0, 6) {
        return None;
    }
    let behind = scheme + 6;
    match spaces(request.word(behind)?) {
        0 => None,
        count => Some(behind + count),
    }
}

/// How many spaces some bytes begin with, two at most: more nobody writes.
#[inline(always)]
const fn spaces(bytes: u64) -> usize {
    match (bytes as u8, (bytes >> 8) as u8) {
        (b' ', b' ') => 2,
        (b' ', _) => 1,
        _ => 0,
    }
}

/// The field that begins so, in lower case, and how long its name is, with the equals sign.
#[inline(always)]
const fn field(name: u64, more: u64) -> Option<(Field, usize)> {
    const fn begins<const N: usize>(text: u64, name: &[u8; N]) -> bool {
        text & (u64::MAX >> (64 - 8 * N)) == sip::pack(name, 0, N)
    }
    if begins(name, b"username") && begins(more, b"=") {
        Some((Field::Username, 9))
    } else if begins(name, b"realm=") {
        Some((Field::Realm, 6))
    } else if begins(name, b"nonce=") {
        Some((Field::Nonce, 6))
    } else if begins(name, b"uri=") {
        Some((Field::Uri, 4))
    } else if begins(name, b"response") && begins(more, b"=") {
        Some((Field::Response, 9))
    } else if begins(name, b"algorith") && begins(more, b"m=") {
        Some((Field::Algorithm, 10))
    } else if begins(name, b"cnonce=") {
        Some((Field::Cnonce, 7))
    } else if begins(name, b"qop=") {
        Some((Field::Qop, 4))
    } else if begins(name, b"nc=") {
        Some((Field::Nc, 3))
    } else if begins(name, b"opaque=") {
        Some((Field::Opaque, 7))
    } else {
        None
    }
}

#[inline(always)]
const fn complete(draft: &Draft) -> bool {
    draft.end[Field::Username as usize] != 0
        && draft.end[Field::Realm as usize] != 0
        && draft.end[Field::Nonce as usize] != 0
        && draft.end[Field::Uri as usize] != 0
        && draft.end[Field::Response as usize] != 0
        && draft.end[Field::Cnonce as usize] != 0
        && draft.end[Field::Qop as usize] != 0
        && draft.end[Field::Nc as usize] != 0
}

impl Request {
    /// Whether a value is this one of `len` bytes, eight at most.
    #[inline(always)]
    pub(super) fn is(self, value: Value, wanted: u64, len: usize) -> bool {
        value.len == len && self.word(value.at).is_some_and(|word| word & u64::MAX >> (64 - 8 * len) == wanted)
    }
}

/// Text in a value of a map that goes on for 264 bytes behind its beginning, or for as many as are read of it.
#[derive(Clone, Copy)]
pub(super) struct Known(pub(super) *const u8);

impl Known {
    /// The eight bytes at an offset of at most 255.
    #[inline(always)]
    pub(super) fn word(self, offset: usize) -> u64 {
        let word: u64;
        // SAFETY: inside the map's value, as the verifier sees by the mask. In assembly, as in `Request::word`.
        unsafe {
            asm!(
                "{at} &= 255", "{from} += {at}", "{word} = *(u64 *)({from} + 0)",
                at = inout(reg) offset => _, from = inout(reg) self.0 => _, word = out(reg) word, options(nostack, readonly),
            );
        }
        u64::from_le(word)
    }
}

/// Whether a value of at most `8 * WORDS` bytes is what `other` has, by offset.
#[inline(always)]
pub(super) fn same<const WORDS: usize>(request: Request, value: Value, other: impl Fn(usize) -> u64) -> bool {
    for i in 0..WORDS {
        let offset = 8 * i;
        if offset >= value.len {
            break;
        }
        let Some(word) = request.word(value.at + offset) else {
            return false;
        };
        let mut differs = word ^ other(offset);
        let left = value.len - offset;
        if left < 8 {
            differs &= u64::MAX >> (64 - 8 * (left as u32 & 7));
        }
        if differs != 0 {
            return false;
        }
    }
    true
}
