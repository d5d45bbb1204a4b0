//! The binary of the name server: `namesrv --config FILE`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match namesrv::main(std::env::args()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("namesrv: {error:#}");
            ExitCode::FAILURE
        }
    }
}
