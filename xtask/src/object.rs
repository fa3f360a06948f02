//! Reads the symbol names of the built object: enough ELF for one question, so that no LLVM tool is needed.

use anyhow::{Context, Result, ensure};

const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const SYMBOL_TABLE: u64 = 2;

/// Fails when the object contains a panic: it could not pass the verifier, which only says "last insn is not an exit".
pub(crate) fn check_no_panics(object: &[u8]) -> Result<()> {
    let names = symbols(object)?;
    ensure!(!names.is_empty(), "the object has no symbols");
    let panics: Vec<&String> = names.iter().filter(|name| name.contains("panicking")).collect();
    ensure!(
        panics.is_empty(),
        "the object can panic: {panics:?}; look for an unmasked index, a division by a variable, or an overflow check"
    );
    Ok(())
}

/// Names of all symbols of a little-endian 64-bit object.
fn symbols(object: &[u8]) -> Result<Vec<String>> {
    ensure!(object.starts_with(b"\x7fELF\x02\x01"), "not a little-endian 64-bit ELF file");
    let sections = usize::try_from(number(object, 40, 8)?)?;
    let count = usize::try_from(number(object, 60, 2)?)?;
    let mut names = Vec::new();
    for section in (0..count).map(|index| sections + index * SECTION_HEADER) {
        if number(object, section + 4, 4)? != SYMBOL_TABLE {
            continue;
        }
        let (table, size) = place(object, section)?;
        let link = usize::try_from(number(object, section + 40, 4)?)?;
        let (strings, _) = place(object, sections + link * SECTION_HEADER)?;
        for symbol in (table..table + size).step_by(SYMBOL) {
            let name = strings + usize::try_from(number(object, symbol, 4)?)?;
            let rest = object.get(name..).context("a symbol's name is outside the file")?;
            names.push(
                rest.iter()
                    .take_while(|byte| **byte != 0)
                    .map(|byte| char::from(*byte))
                    .collect::<String>(),
            );
        }
    }
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

/// Offset and size of a section's contents.
fn place(object: &[u8], section: usize) -> Result<(usize, usize)> {
    Ok((
        usize::try_from(number(object, section + 24, 8)?)?,
        usize::try_from(number(object, section + 32, 8)?)?,
    ))
}

fn number(object: &[u8], at: usize, size: usize) -> Result<u64> {
    let bytes = object.get(at..at + size).context("the ELF file is cut short")?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::{check_no_panics, symbols};

    #[test]
    fn this_test_program_has_panics_and_says_so() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(symbols(&program).unwrap().iter().any(|name| name == "main"));
        assert!(check_no_panics(&program).unwrap_err().to_string().contains("can panic"));
    }

    #[test]
    fn a_file_that_is_no_object_is_refused() {
        assert!(symbols(b"\x7fELF\x02\x01").is_err());
        assert!(symbols(b"#!/bin/sh").is_err());
    }
}
