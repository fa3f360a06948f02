//! A guard on the size of the programs: what grows is noticed when it grows, and not by who measures times a year later.
//!
//! Counted is what does not depend on the machine: instructions after the kernel's rewriting, and those that its verifier walked through, which
//! bound how much more fits (a million is the end). Compilers and kernels differ by some percent, so the limits leave a tenth or so.

use aya::programs::ProgramInfo;
use sipauth_common::abi;
use sipauth_tests::require_root;
use sipauth_user::datapath::{self, Sizes};

/// Bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// What a program may have.
struct Limit {
    program: &'static str,
    instructions: u32,
    /// Kernels prune differently: 6.1 walks through more than 6.18.
    verified: u32,
}

/// Raise one where what came in is worth it, in the same commit.
const LIMITS: [Limit; 3] = [
    Limit {
        program: abi::PROGRAM_INGRESS,
        instructions: 15_500,
        verified: 350_000,
    },
    Limit {
        program: abi::PROGRAM_INGRESS_FRAGS,
        instructions: 15_500,
        verified: 350_000,
    },
    Limit {
        program: abi::PROGRAM_EGRESS,
        instructions: 920,
        verified: 4_000,
    },
];

/// What is wrong with a program's counts, in words that say what to do.
fn judge(limit: &Limit, instructions: u32, verified: u32) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, count, most) in [
        ("instructions", instructions, limit.instructions),
        ("instructions walked by the verifier", verified, limit.verified),
    ] {
        if count > most {
            wrong.push(format!(
                "{}: {count} {what}, and at most {most} are allowed: find what grew (git bisect), make it smaller, or raise LIMITS with the reason",
                limit.program
            ));
        }
    }
    if instructions < limit.instructions / 2 {
        wrong.push(format!(
            "{}: {instructions} instructions are far below the limit of {}: lower LIMITS, or growth goes unseen",
            limit.program, limit.instructions
        ));
    }
    wrong
}

fn counts(info: &ProgramInfo) -> (u32, u32) {
    let bytes = info.size_translated().expect("root sees it");
    (bytes / INSTRUCTION, info.verified_instruction_count().expect("kernel 5.16"))
}

#[test]
fn no_program_has_more_instructions_than_its_limit() {
    require_root!();
    let mut wrong = Vec::new();
    for limit in &LIMITS {
        let info = if limit.program == abi::PROGRAM_EGRESS {
            let mut programs = datapath::load_ingress(None, &Sizes::least(), abi::PROGRAM_INGRESS).expect("the object loads");
            programs.egress().expect("the program").info()
        } else {
            let mut programs = datapath::load_ingress(None, &Sizes::least(), limit.program).expect("the object loads");
            programs.ingress().expect("the program").info()
        };
        let (instructions, verified) = counts(&info.expect("its counts"));
        println!("{}: {instructions} instructions, {verified} walked by the verifier", limit.program);
        wrong.extend(judge(limit, instructions, verified));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_grows_beyond_its_limit_is_named_and_what_shrinks_far_below_it_too() {
    let limit = Limit {
        program: "a program",
        instructions: 1_000,
        verified: 20_000,
    };
    assert_eq!(judge(&limit, 1_000, 20_000), Vec::<String>::new());
    assert!(judge(&limit, 1_001, 20_000)[0].contains("1001 instructions, and at most 1000"));
    assert!(judge(&limit, 600, 20_001)[0].contains("walked by the verifier"));
    assert!(judge(&limit, 400, 100)[0].contains("far below"));
}
