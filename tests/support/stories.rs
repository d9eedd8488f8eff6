//! The stories of `tests/goldens/`.

use std::path::{Path, PathBuf};

/// The stories of a folder, by name: their files, and their texts.
pub fn stories(folder: &str) -> Vec<(String, PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(folder);
    let mut stories = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the goldens") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a story");
            stories.push((name, path, text));
        }
    }
    stories.sort_by(|one, other| one.0.cmp(&other.0));
    stories
}
