//! The binary of the name server: `namesrv --config FILE`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    namesrv::main(std::env::args()).await
}
