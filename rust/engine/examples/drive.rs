//! Saves and restores without Python, in a process of its own, and tells times and memory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/common/drive.rs"]
mod drive;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match drive::drive(&arguments) {
        Ok(text) => {
            println!("{text}");
            std::process::ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            std::process::ExitCode::FAILURE
        }
    }
}
