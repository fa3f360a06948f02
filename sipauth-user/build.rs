//! Builds the kernel program and leaves it in `OUT_DIR/sipauth.bpf.o` for `include_bytes_aligned!`.
//!
//! `SIPAUTH_EBPF_OBJ` names a prebuilt object instead (no nightly, no bpf-linker needed); `SIPAUTH_BPF_TOOLCHAIN` a toolchain.

use std::{env, fs, path::Path, path::PathBuf};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() {
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    for key in ["SIPAUTH_EBPF_OBJ", "SIPAUTH_BPF_TOOLCHAIN"] {
        println!("cargo::rerun-if-env-changed={key}");
    }
    let object = PathBuf::from(variable("OUT_DIR")?).join("sipauth.bpf.o");
    if let Some(prebuilt) = env::var_os("SIPAUTH_EBPF_OBJ") {
        println!("cargo::rerun-if-changed={}", Path::new(&prebuilt).display());
        return copy(Path::new(&prebuilt), &object);
    }

    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().ok_or("sipauth-user is not in a workspace")?;
    for path in [
        "sipauth-ebpf/src",
        "sipauth-ebpf/Cargo.toml",
        "sipauth-ebpf/Cargo.lock",
        "sipauth-common/src",
        "sipauth-common/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    if variable("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        return Err("sipauth runs on little-endian machines only".to_owned());
    }

    let toolchain =
        toolchain::Toolchain::find().map_err(|lacks| format!("no compiler for the kernel program ({lacks}).\nRun: cargo xtask setup"))?;
    let output = toolchain
        .cargo("build", root)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", toolchain.name))?;
    if !output.status.success() {
        let mut message = format!(
            "the kernel program did not build with {} ({}):\n",
            toolchain.name, toolchain.version
        );
        message += &String::from_utf8_lossy(&output.stderr);
        message += &format!(
            "\nIf a tool is missing, run: cargo xtask setup (it installs bpf-linker; nightly is {})",
            toolchain::NIGHTLY
        );
        return Err(message);
    }
    copy(&toolchain::object_path(root), &object)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("cannot copy the object {}: {error}", from.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this is a build script for cargo"))
}
