//! Runs the scenarios of docs/reliability.md against real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use e2e::process;
use e2e::random::Random;
use e2e::soak::{Report, Run, Scenario, Size};

#[global_allocator]
static HEAP: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

const USAGE: &str = "\
usage: soak list
       soak (all | R1 R5 …) [--full] [--seed N] [--report DIR]

Plays scenarios one after the other. The short form takes seconds each, the full form minutes.
--report keeps report.txt, report.json and ledger.jsonl of each in DIR/R1, DIR/R5, …
Build first: cargo build -p auth-service --bin auth-service";

struct Wish {
    scenarios: Vec<Scenario>,
    size: Size,
    seed: u64,
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["list"] {
        for scenario in Scenario::ALL {
            println!("{:<4} {}", scenario.id(), scenario.title());
        }
        return ExitCode::SUCCESS;
    }
    let wish = match Wish::read(&arguments) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    process::allow_open_files(16_000);
    let mut failed = Vec::new();
    for &scenario in &wish.scenarios {
        if !wish.play(scenario) {
            failed.push(scenario.id());
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(" "));
    ExitCode::FAILURE
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let seed = Random::fresh().next() % 1_000_000;
        let mut wish = Self { scenarios: Vec::new(), size: Size::Short, seed, report: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--full" => wish.size = Size::Full,
                "--seed" => wish.seed = value()?.parse().map_err(|_| "--seed needs a number".to_owned())?,
                "--report" => wish.report = Some(value()?.into()),
                "all" => wish.scenarios = Scenario::ALL.to_vec(),
                id => wish.scenarios.push(find(id)?),
            }
        }
        if wish.scenarios.is_empty() { Err("which scenario?".to_owned()) } else { Ok(wish) }
    }

    /// Runs one scenario; a panic in it is a failure, and does not stop the next one.
    fn play(&self, scenario: Scenario) -> bool {
        let folder = self.report.as_ref().map(|folder| folder.join(scenario.id()));
        if let Some(folder) = &folder {
            fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        println!("{} (seed {}): {} …", scenario.id(), self.seed, scenario.title());
        let run = Run::new(self.size, self.seed, folder.as_deref());
        let play = move || {
            let runtime = tokio::runtime::Runtime::new().expect("threads");
            runtime.block_on(scenario.play(run))
        };
        let Ok(report) = std::thread::spawn(play).join() else {
            // The panic message is already on standard error.
            println!("{} FAILED: it could not be played to its end\n", scenario.id());
            return false;
        };
        println!("{report}\n");
        if let Some(folder) = &folder {
            keep(folder, &report);
        }
        report.passed()
    }
}

fn find(id: &str) -> Result<Scenario, String> {
    let found = Scenario::ALL.into_iter().find(|scenario| scenario.id().eq_ignore_ascii_case(id));
    found.ok_or(format!("there is no scenario {id}"))
}

fn keep(folder: &Path, report: &Report) {
    let json = serde_json::to_string_pretty(&report.to_json()).expect("a report is JSON");
    fs::write(folder.join("report.txt"), format!("{report}\n")).expect("the folder was made");
    fs::write(folder.join("report.json"), json).expect("the folder was made");
}
