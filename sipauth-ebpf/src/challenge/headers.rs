//! Where the headers that a response repeats stand in the request, and its credentials.

use sipauth_common::sip;

use super::search;
use crate::maps::DRAFT;

/// The headers that a response has from its request (RFC 3261, 8.2.6.2), and more: index into the draft's lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// All lines, which stand together.
    Via = 0,
    From = 1,
    To = 2,
    CallId = 3,
    CSeq = 4,
    /// The first line of Via.
    TopVia = 5,
    /// The one line of credentials.
    Credentials = 6,
    /// The request line.
    Start = 7,
    ContentLength = 8,
    Expires = 9,
    /// The blank line.
    Blank = 10,
}

/// Answers of [`sipauth_headers`], which can return a number only. Not plain: it is for the agent.
const ODD: u32 = 0;
/// All that a response needs is there once, and no credentials.
pub(super) const PLAIN: u32 = 1;
/// Likewise, with one line of credentials.
pub(super) const WITH_CREDENTIALS: u32 = 2;

/// A power of two above the last header.
pub(super) const SLOTS: usize = 16;
/// Lines of a request that are looked at; few have more.
const LINES: usize = 40;

const END: u64 = sip::pack(b"\r\n", 0, 2);

/// Finds the headers of the request in the map. Without `credentials` one that has some is not plain.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_headers(len: u32, credentials: u32) -> u32 {
    let (Some(draft), Some(request)) = (DRAFT.get_ptr_mut(0), search::Request::get()) else {
        return ODD;
    };
    // SAFETY: this CPU's own element, which no one else uses while this packet is on its way.
    let draft = unsafe { &mut *draft };
    draft.end = [0; SLOTS];
    let mut at = search::sipauth_line(0, len) as usize;
    // `SIP/2.0` at the end of the request line, or it is none.
    if at < 16 || request.word(at - 9) != Some(sip::pack(b"SIP/2.0\r", 0, 8)) {
        return ODD;
    }
    draft.at[Header::Start as usize] = 0;
    draft.end[Header::Start as usize] = at as u32;
    let mut vias_end = 0;
    for _ in 0..LINES {
        let (Some(bytes), Some(name), Some(more)) = (request.word(at), request.lower(at), request.lower(at + 8)) else {
            return ODD;
        };
        if bytes & 0xffff == END {
            draft.at[Header::Blank as usize] = at as u32;
            draft.end[Header::Blank as usize] = at as u32 + 2;
            return if at + 2 > len as usize || !complete(draft) {
                ODD
            } else if draft.end[Header::Credentials as usize] == 0 {
                PLAIN
            } else {
                WITH_CREDENTIALS
            };
        }
        // A line that goes on with the one before.
        if matches!(bytes as u8, b' ' | b'\t') {
            return ODD;
        }
        let end = sipauth_header(at as u32, len) as usize;
        if end == 0 {
            return ODD;
        }
        match header(name, more) {
            Some(Header::Via) => {
                if draft.end[Header::TopVia as usize] == 0 {
                    draft.at[Header::Via as usize] = at as u32;
                    draft.end[Header::TopVia as usize] = end as u32;
                } else if vias_end != at {
                    return ODD;
                }
                vias_end = end;
                draft.end[Header::Via as usize] = end as u32;
            }
            Some(header) => {
                let slot = header as usize & (SLOTS - 1);
                if draft.end[slot] != 0 || slot == Header::Credentials as usize && credentials == 0 {
                    return ODD;
                }
                draft.at[slot] = at as u32;
                draft.end[slot] = end as u32;
            }
            None => {}
        }
        at = end;
    }
    ODD
}

/// Where the header's line that begins at `from` ends, as [`search::sipauth_line`]; 0 also where its name has space behind it or a tab in it, so
/// that it is another to others, or where it has no name or no value.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_header(from: u32, len: u32) -> u32 {
    let end = search::sipauth_line(from, len);
    let colon = search::sipauth_find(from, end, b':'.into());
    if end == 0 || colon <= from || search::sipauth_find(from, colon, b'\t'.into()) != 0 {
        return 0;
    }
    let word = match search::Request::get() {
        Some(request) => request.word(colon as usize - 1),
        None => None,
    };
    let Some(around) = word else { return 0 };
    if around as u8 == b' ' {
        return 0;
    }
    // Some clients write their numbers in columns.
    for i in 2..8 {
        match (around >> (8 * i)) as u8 {
            b' ' => {}
            b'\r' | b'\t' => return 0,
            _ => return end,
        }
    }
    0
}

#[inline(always)]
const fn complete(draft: &super::Draft) -> bool {
    draft.end[Header::Via as usize] != 0
        && draft.end[Header::From as usize] != 0
        && draft.end[Header::To as usize] != 0
        && draft.end[Header::CallId as usize] != 0
        && draft.end[Header::CSeq as usize] != 0
}

/// By name or its short form (RFC 3261, 7.3.3), the first eight bytes of the line and the next in lower case.
#[inline(always)]
const fn header(line: u64, more: u64) -> Option<Header> {
    if begins(line, b"via:") || begins(line, b"v:") {
        Some(Header::Via)
    } else if begins(line, b"from:") || begins(line, b"f:") {
        Some(Header::From)
    } else if begins(line, b"to:") || begins(line, b"t:") {
        Some(Header::To)
    } else if begins(line, b"call-id:") || begins(line, b"i:") {
        Some(Header::CallId)
    } else if begins(line, b"cseq:") {
        Some(Header::CSeq)
    } else if begins(line, b"expires:") {
        Some(Header::Expires)
    } else if begins(line, b"l:") || begins(line, b"content-") && begins(more, b"length:") {
        Some(Header::ContentLength)
    } else if line == sip::pack(b"authoriz", 0, 8) || line == sip::pack(b"proxy-au", 0, 8) {
        // Or what may look like them to others.
        Some(Header::Credentials)
    } else {
        None
    }
}

#[inline(always)]
const fn begins<const N: usize>(line: u64, name: &[u8; N]) -> bool {
    line & (u64::MAX >> (64 - 8 * N)) == sip::pack(name, 0, N)
}

/// Where a header stands: its first byte, and what is behind its line's end.
#[inline(always)]
pub(crate) fn place(header: Header) -> (usize, usize) {
    match DRAFT.get(0) {
        Some(draft) => (draft.at[header as usize] as usize, draft.end[header as usize] as usize),
        None => (0, 0),
    }
}

/// A hash of a header's line.
#[inline(always)]
pub(super) fn hash(header: Header, seed: u64) -> u64 {
    let (at, end) = place(header);
    search::sipauth_hash(at as u32, end as u32, seed)
}
