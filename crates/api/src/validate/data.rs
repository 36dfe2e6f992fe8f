//! Keys and sizes of ConfigMaps and Secrets.

use super::Field;
use crate::kind::Causes;
use crate::meta::names;

/// All values together, in bytes.
const DATA_MAX: usize = 1024 * 1024;

/// Checks keys and total size of the given maps.
pub fn data_keys(root: &Field<'_, '_>, maps: &[&str], out: &mut Causes) {
    let (mut size, mut keys) = (0, Vec::new());
    for map in maps.iter().map(|name| root.field(name)) {
        for (key, value) in map.entries() {
            let shown = key.into();
            names::config_key(key).iter().for_each(|p| value.invalid_value(&shown, p, out));
            if keys.contains(&key) {
                value.invalid_value(&shown, "duplicate of a key in another map", out);
            }
            keys.push(key);
            size += value.text().len();
        }
    }
    if size > DATA_MAX {
        root.field("data").too_long(DATA_MAX, out);
    }
}

/// Data that was declared immutable stays as it is, and immutable.
pub fn sealed_data(new: &Field<'_, '_>, old: &Field<'_, '_>, maps: &[&str], out: &mut Causes) {
    const TEXT: &str = "field is immutable when `immutable` is set";
    if !old.field("immutable").flag() {
        return;
    }
    if !new.field("immutable").flag() {
        new.field("immutable").forbidden(TEXT, out);
    }
    for name in maps {
        let (new, old) = (new.field(name), old.field(name));
        let same = new.value == old.value || (new.is_empty() && old.is_empty());
        if !same {
            new.forbidden(TEXT, out);
        }
    }
}
