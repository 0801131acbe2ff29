//! What the steps of a decision cost by themselves: the least of many runs, beside a yardstick that does as little as the
//! work allows on the same machine at the same time. Nothing here touches a socket.

mod micro {
    pub(crate) mod body;
    pub(crate) mod config;
    pub(crate) mod index;
    pub(crate) mod table;
    pub(crate) mod timing;
}

use clap::Parser;
use micro::timing::Page;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times the parts of a decision and prints a table.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each; the least counts.
    #[arg(long, default_value_t = 40)]
    runs: usize,
    /// Leaves out the table of ten million keys, which takes some seconds and 400 MB to make.
    #[arg(long)]
    quick: bool,
}

fn main() {
    let args = Args::parse();
    let page = Page::new(args.runs.max(30));
    micro::body::all(&page);
    micro::table::all(&page);
    micro::config::all(&page);
    micro::index::all(&page, 1_000_000);
    if !args.quick {
        micro::index::all(&page, 10_000_000);
    }
}
