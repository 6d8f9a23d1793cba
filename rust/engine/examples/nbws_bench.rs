//! Times save and restore without Python: `nbws_bench save DIR URL STATE [LEVEL]`, `nbws_bench restore URL DIR STATE`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
use nbws_engine::Workspace;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Level, OpenOptions, RestoreOptions, SaveOptions};
use std::path::Path;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = |state: &str| OpenOptions {
        create: true,
        state_dir: Some(state.into()),
        ..OpenOptions::default()
    };
    match args[0].as_str() {
        "save" => {
            let ws = Workspace::open(&args[2], options(&args[3])).await.unwrap();
            let level = args
                .get(4)
                .map_or(Level::Auto, |l| Level::Fixed(l.parse().unwrap()));
            let options = SaveOptions {
                level,
                ..SaveOptions::default()
            };
            let report = ws
                .save(Path::new(&args[1]), options, None, CancelToken::new())
                .await
                .unwrap();
            println!("{report:#?}");
        }
        _ => {
            let ws = Workspace::open(&args[1], options(&args[3])).await.unwrap();
            let report = ws
                .restore(
                    Path::new(&args[2]),
                    RestoreOptions::default(),
                    None,
                    CancelToken::new(),
                )
                .await
                .unwrap();
            println!("{report:#?}");
        }
    }
}
