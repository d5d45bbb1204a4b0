//! What is checked in is what the types say, and small enough for plain `kubectl apply`.

use std::{fs, path::Path};

#[test]
fn the_checked_in_yaml_is_generated_from_the_types() {
    for (file, crd) in crds::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == crds::yaml(&crd),
            "{} is stale: run `cargo run -p crds --bin crds-gen`",
            path.display()
        );
    }
}

#[test]
fn a_definition_fits_into_the_annotation_of_kubectl_apply() {
    for (file, crd) in crds::all() {
        let size = crds::yaml(&crd).len();
        assert!(size < 200_000, "{file} has {size} bytes");
    }
}
