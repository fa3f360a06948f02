//! The digest of a request, with MD5 and `qop=auth` (RFC 3261, 22.4).

use sipauth_common::{
    challenge::hex,
    md5::{self, BLOCK},
    sip,
};

use super::{CNONCE, fields::Field};
use crate::{
    challenge::{search::Request, text::Text},
    maps::DRAFT,
};

/// Blocks that are looked at; what is written here never has more.
const BLOCKS: usize = 4;

/// Whether the response is what the caller's password gives. In steps that are functions of their own, not one inside the other: all functions
/// under way together have 512 bytes of stack.
#[inline(always)]
pub(super) fn is_right() -> bool {
    sipauth_ha2() != 0 && sipauth_digest() != 0 && sipauth_response() != 0
}

/// Leaves the digest of method and digest-uri in the draft.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_ha2() -> u32 {
    u32::from(ha2().is_some())
}

#[inline(always)]
fn ha2() -> Option<()> {
    let mut text = Text::new()?;
    text.word(sip::pack(b"INVITE:", 0, 7), 7);
    append(&mut text, Field::Uri)?;
    sum(text)
}

/// Leaves the digest that is to be the response in the draft, where [`sipauth_ha2`] left the other.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_digest() -> u32 {
    u32::from(digest().is_some())
}

#[inline(always)]
fn digest() -> Option<()> {
    let draft = DRAFT.get(0)?;
    let cnonce = draft.proof.value(Field::Cnonce).len;
    if cnonce == 0 || cnonce > CNONCE {
        return None;
    }
    let mut text = Text::new()?;
    text.copy((&raw const draft.proof.caller.ha1) as usize, 32)?;
    for field in [Field::Nonce, Field::Nc, Field::Cnonce, Field::Qop] {
        text.word(u64::from(b':'), 1);
        append(&mut text, field)?;
    }
    text.word(u64::from(b':'), 1);
    for word in &draft.proof.sum {
        text.word(hex(word.swap_bytes()), 8);
    }
    sum(text)
}

#[inline(always)]
fn append(text: &mut Text, field: Field) -> Option<()> {
    let value = DRAFT.get(0)?.proof.value(field);
    text.request(value.at, value.at + value.len)
}

/// Whether the response is the digest in the draft, in lower case as it is sent.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_response() -> u32 {
    let (Some(draft), Some(request)) = (DRAFT.get(0), Request::get()) else {
        return 0;
    };
    let response = draft.proof.value(Field::Response);
    if response.len != 32 {
        return 0;
    }
    // All of it, wherever it differs: time tells nothing.
    let mut differs = 0;
    for (i, word) in draft.proof.sum.iter().enumerate() {
        let expected = hex(word.swap_bytes());
        differs |= expected ^ request.word(response.at + 8 * i).unwrap_or(!expected);
    }
    u32::from(differs == 0)
}

/// Leaves the MD5 sum of a text in the draft.
#[inline(always)]
fn sum(mut text: Text) -> Option<()> {
    let len = text.len;
    let blocks = md5::blocks(len);
    if blocks > BLOCKS {
        return None;
    }
    text.word(0x80, 8);
    for _ in 0..BLOCK / 8 + 1 {
        text.word(0, 8);
    }
    text.len = blocks * BLOCK - 8;
    text.word(8 * len as u64, 8);
    (sipauth_md5(blocks as u32) != 0).then_some(())
}

/// The MD5 sum of the first blocks of the draft.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_md5(blocks: u32) -> u32 {
    let (Some(draft), Some(bytes)) = (DRAFT.get_ptr_mut(0), crate::challenge::response()) else {
        return 0;
    };
    let mut state = md5::START;
    for i in 0..BLOCKS {
        if i >= blocks as usize {
            break;
        }
        // SAFETY: the draft is longer than that, and begins on a word.
        let block: *const u32 = unsafe { bytes.add(i * BLOCK) }.cast();
        // Volatile, or the compiler would keep all sixteen words on the stack, which has no room for them.
        // SAFETY: as above, a word of the sixteen.
        state = md5::compress(state, |n| u32::from_le(unsafe { block.add(n).read_volatile() }));
    }
    // SAFETY: this CPU's own element, which no one else uses while this packet is on its way.
    unsafe { (*draft).proof.sum = state };
    1
}
