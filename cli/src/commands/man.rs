//! `gantry man DIRECTORY`.

use std::fs;

use clap::CommandFactory as _;

use crate::args::{Cli, ManArgs};
use crate::failure::Failure;

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let directory = &args.directory;
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| {
        Failure::failed(format!("the man pages cannot be written into {}: {error}", directory.display()))
            .next("name a directory that you may write to")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What each page must say of its command: its name, and each argument that is for it alone.
    fn expected(command: &clap::Command, name: &str, pages: &mut BTreeMap<String, Vec<String>>) {
        let shown = |argument: &&clap::Arg| !argument.is_hide_set();
        let mut words: Vec<String> = command
            .get_arguments()
            .filter(shown)
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .collect();
        words.push(command.get_about().expect("it says what it is for").to_string());
        pages.insert(format!("{name}.1"), words);
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            expected(sub, &format!("{name}-{}", sub.get_name()), pages);
        }
    }

    #[test]
    fn every_command_has_a_page_that_shows_what_can_be_typed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("man1");
        run(&ManArgs { directory: directory.clone() }).unwrap();
        let mut pages = BTreeMap::new();
        expected(&Cli::command(), "gantry", &mut pages);
        assert!(pages.contains_key("gantry-topic-create.1") && pages.len() > 40, "{:?}", pages.keys());
        let mut written: Vec<String> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        written.sort();
        assert_eq!(written, pages.keys().cloned().collect::<Vec<_>>());
        for (page, words) in pages {
            let text = fs::read_to_string(directory.join(&page)).unwrap();
            assert!(text.contains(".TH gantry"), "{page}: {text}");
            for word in words {
                let word = word.replace('\\', r"\\").replace('-', r"\-").replace('\'', r"\*(Aq");
                assert!(text.contains(&word), "{page} lacks {word}:\n{text}");
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = run(&ManArgs { directory: file.join("man1") }).unwrap_err().to_string();
        assert!(failure.contains("file/man1") && failure.contains("you may write to"), "{failure}");
    }
}
