//! Writes the CustomResourceDefinitions beside the crate, or into the directory that is given.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory =
        env::args_os().nth(1).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    for (file, crd) in crds::all() {
        fs::write(directory.join(file), crds::yaml(&crd))?;
    }
    Ok(())
}
