//! The stamp on what a broker keeps: which resource it is for. Pure.

use kube::ResourceExt as _;

use super::Declared;

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours.
    Us,
    /// Nobody's, or of a resource that has no right to it: it can be taken over.
    Nobody,
    /// Somebody else's.
    Other,
}

/// What is stamped for a resource: `namespace/name/uid`.
pub fn stamp<K: Declared>(resource: &K) -> String {
    format!(
        "{}/{}/{}",
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
        resource.uid().unwrap_or_default()
    )
}

/// Reads the stamp `found` for the one who stamps `ours`.
pub fn owner(ours: &str, found: &str) -> Owner {
    if found == ours {
        return Owner::Us;
    }
    let namespace = ours.split('/').next();
    let mut parts = found.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), None, _, _) => Owner::Nobody,
        // One operator serves a namespace, and whoever gets here is the oldest that has a right to the name: the other is gone, has
        // none, or is younger and was only quicker. Of another namespace nobody knows: another operator may serve it.
        (found, Some(_), Some(_), None) if found == namespace => Owner::Nobody,
        _ => Owner::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_taken_over_only_from_nobody() {
        for (found, expected) in [
            ("shop/orders/uid-1", Owner::Us),
            ("", Owner::Nobody),
            ("shop/orders/uid-0", Owner::Nobody),
            ("shop/other/uid-0", Owner::Nobody),
            ("elsewhere/orders/uid-0", Owner::Other),
            ("terraform", Owner::Other),
            ("shop", Owner::Other),
        ] {
            assert_eq!(owner("shop/orders/uid-1", found), expected, "{found}");
        }
    }
}
