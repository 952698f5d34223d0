//! Writes the digest of the sources into the engine, as the name that the library tells of itself: `building.py` computes the
//! same, and refuses an engine of other sources before it is loaded.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const HEADS: [&str; 3] = ["Cargo.toml", "Cargo.lock", "build.rs"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut names: Vec<String> = HEADS.map(String::from).to_vec();
    collect(&root, "src", &mut names)?;
    names.sort_unstable();
    let mut told = blake2b_simd::Params::new().hash_length(16).to_state();
    for name in &names {
        let content = fs::read(root.join(name))?;
        told.update(format!("{name}\0{}\0", content.len()).as_bytes());
        told.update(&content);
    }
    for name in HEADS.iter().chain(&["src"]) {
        println!("cargo::rerun-if-changed={name}");
    }
    let name = format!("rater-engine-{}", told.finalize().to_hex());
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        // What is Python's comes from the process that imports the engine.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,{name},-undefined,dynamic_lookup");
    } else {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{name}");
    }
    Ok(())
}

/// Add the paths of all Rust files below a folder, from the crate's root, with slashes.
fn collect(root: &Path, folder: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(root, &name, names)?;
        } else if name.ends_with(".rs") {
            names.push(name);
        }
    }
    Ok(())
}
