//! What a session adds to a request: ours, its peers, and the floors, interleaved in one run.
//!
//! `cargo bench -- [--quick] [--json FILE] [--svg FILE] [--instructions]`

use peers::{
    ours, parts,
    peers::{Case, Cell, Peer, most_notes},
    plot,
    shop::{SIZES, Shop},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    hint::black_box,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

struct Options {
    quick: bool,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    instructions: bool,
}

fn options() -> Options {
    let mut options = Options { quick: false, json: None, svg: None, instructions: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut file = || Some(args.next().expect("a file").into());
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = file(),
            "--svg" => options.svg = file(),
            "--instructions" => options.instructions = true,
            // cargo adds it.
            "--bench" => {}
            other => panic!("{other}: there are --quick, --json FILE, --svg FILE and --instructions"),
        }
    }
    options
}

fn main() {
    let options = options();
    for (notes, bytes) in SIZES {
        assert_eq!(postcard::to_allocvec(&Shop::with_notes(notes)).expect("it encodes").len(), bytes);
    }
    let cells: Vec<Cell> = Case::ALL
        .into_iter()
        .flat_map(|case| SIZES.into_iter().map(move |(notes, _)| (case, notes)))
        .flat_map(|(case, notes)| Peer::ALL.into_iter().map(move |peer| Cell::new(peer, case, notes)))
        .collect();
    let (rounds, run) =
        if options.quick { (40, Duration::from_micros(300)) } else { (600, Duration::from_micros(500)) };
    let calls: Vec<Box<dyn Fn()>> =
        cells.iter().map(|cell| Box::new(|| drop(black_box(cell.call()))) as _).collect();
    let times = interleaved(&calls, rounds, run);
    let allocations = counted();
    let instructions = if options.instructions { instructions(&cells) } else { BTreeMap::new() };

    let mut rows = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        let is_bare =
            |other: &Cell| other.peer == Peer::Bare && other.case == cell.case && other.notes == cell.notes;
        let bare = cells.iter().position(is_bare).expect("bare is measured");
        let added = median(times[at].iter().zip(&times[bare]).map(|(its, bare)| its - bare).collect());
        let key = |cell: &Cell| (cell.peer.name().to_owned(), cell.case.name().to_owned(), cell.notes);
        let [allocs, bytes] =
            [0, 1].map(|which| allocations[&key(cell)][which] - allocations[&key(&cells[bare])][which]);
        let instructions = instructions.get(&at).zip(instructions.get(&bare)).map(|(its, bare)| its - bare);
        rows.push(Row {
            peer: cell.peer,
            case: cell.case,
            size: SIZES.into_iter().find(|(notes, _)| *notes == cell.notes).expect("a size").1,
            ns: median(times[at].clone()),
            added,
            set_cookie: cell.set_cookie(),
            allocs,
            bytes,
            instructions,
        });
    }
    report(&rows);
    ours_alone(rounds, run);
    if let Some(file) = &options.json {
        fs::write(file, json(&rows)).expect("the file is written");
    }
    if let Some(file) = &options.svg {
        let bars = rows
            .iter()
            .filter(|row| matches!(row.case, Case::Read | Case::ReadWrite) && !row.peer.is_empty());
        let bars: Vec<_> = bars.map(|row| (row.case.name(), row.size, row.peer.name(), row.added)).collect();
        fs::write(file, plot::svg(&bars)).expect("the file is written");
    }
}

struct Row {
    peer: Peer,
    case: Case,
    size: usize,
    ns: f64,
    added: f64,
    set_cookie: usize,
    allocs: i64,
    bytes: i64,
    instructions: Option<i64>,
}

/// Nanoseconds of a call, for each of them and each round. All in each round, so that a drift of the machine hits
/// all alike.
fn interleaved(calls: &[Box<dyn Fn() + '_>], rounds: usize, run: Duration) -> Vec<Vec<f64>> {
    let repeats: Vec<u32> = calls
        .iter()
        .map(|call| {
            let begun = Instant::now();
            let mut repeats = 0;
            while begun.elapsed() < run {
                call();
                repeats += 1;
            }
            repeats
        })
        .collect();
    let mut times = vec![Vec::with_capacity(rounds); calls.len()];
    for round in 0..rounds {
        for step in 0..calls.len() {
            // Forwards and backwards in turn: the neighbour that warmed the caches is another one.
            let at = if round % 2 == 0 { step } else { calls.len() - 1 - step };
            let begun = Instant::now();
            for _ in 0..repeats[at] {
                calls[at]();
            }
            times[at].push(begun.elapsed().as_nanos() as f64 / f64::from(repeats[at]));
        }
    }
    times
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Allocations and bytes of each cell.
fn counted() -> BTreeMap<(String, String, usize), [i64; 2]> {
    let output = Command::new(env!("CARGO_BIN_EXE_count")).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        ((words[0].to_owned(), words[1].to_owned(), number(2) as usize), [number(3), number(4)])
    };
    text.lines().map(line).collect()
}

/// Instructions of one request of each cell, as callgrind counts them.
fn instructions(cells: &[Cell]) -> BTreeMap<usize, i64> {
    let collected = |cell: &Cell, times: u32| -> i64 {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_one")])
            .args([cell.peer.name(), cell.case.name(), &cell.notes.to_string(), &times.to_string()])
            .output()
            .expect("valgrind is there");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let count =
            text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let each = |(at, cell)| (at, (collected(cell, 300) - collected(cell, 100)) / 200);
    cells.iter().enumerate().map(each).collect()
}

fn report(rows: &[Row]) {
    let added = |peer: Peer, row: &Row| {
        rows.iter()
            .find(|it| it.peer == peer && it.case == row.case && it.size == row.size)
            .map(|it| it.added)
    };
    println!(
        "{:<12}{:>5}  {:<16}{:>9}{:>10}{:>9}{:>15}{:>12}{:>8}{:>8}{:>9}",
        "case",
        "bytes",
        "peer",
        "ns",
        "added ns",
        "× floor",
        "× floor-layer",
        "Set-Cookie",
        "allocs",
        "bytes",
        "instr."
    );
    for row in rows {
        let over = |floor| added(floor, row).map_or(f64::NAN, |floor| row.added / floor);
        println!(
            "{:<12}{:>5}  {:<16}{:>9.0}{:>10.0}{:>9.2}{:>15.2}{:>12}{:>8}{:>8}{:>9}",
            row.case.name(),
            row.size,
            row.peer.name(),
            row.ns,
            row.added,
            over(Peer::Floor),
            over(Peer::FloorLayer),
            row.set_cookie,
            row.allocs,
            row.bytes,
            row.instructions.map_or("-".to_owned(), |count| count.to_string()),
        );
    }
    println!("\nshort strings that fit into 4093 bytes of Set-Cookie");
    for peer in Peer::ALL.into_iter().filter(|peer| !peer.is_empty()) {
        println!("{:<16}{:>5}", peer.name(), most_notes(peer));
    }
}

fn json(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let Row { peer, case, size, added, set_cookie, allocs, .. } = row;
        let (peer, case) = (peer.name(), case.name());
        writeln!(
            text,
            r#"{{"peer":"{peer}","case":"{case}","size":{size},"added_ns":{added:.1},"set_cookie":{set_cookie},"allocs":{allocs}}}"#
        )
        .expect("a String takes it");
    }
    text
}

/// What only this crate has: rings of many keys, and what is refused; and the same on two threads.
fn ours_alone(rounds: usize, run: Duration) {
    for (title, cases) in
        [("opening, ours alone: ns", ours::cases()), ("the parts of a message: ns", parts::cases())]
    {
        println!("\n{title}");
        let calls: Vec<Box<dyn Fn()>> = cases.iter().map(|(_, call)| Box::new(call) as _).collect();
        for ((name, _), times) in cases.iter().zip(interleaved(&calls, rounds, run)) {
            println!("{name:<44}{:>9.0}", median(times));
        }
    }
    println!("\ntwo threads and one layer: calls of both together over calls of one alone");
    let case = |peer, case| Cell::new(peer, case, 0);
    let cells = [
        case(Peer::Bare, Case::Untouched),
        case(Peer::Encrypted, Case::Untouched),
        case(Peer::Encrypted, Case::Read),
        case(Peer::Encrypted, Case::ReadWrite),
        case(Peer::Signed, Case::Read),
    ];
    let mut scaling = vec![Vec::new(); cells.len()];
    for _ in 0..rounds.min(100) {
        for (cell, scaling) in cells.iter().zip(&mut scaling) {
            let during = 20 * run;
            let alone = calls_in(cell, 1, during);
            scaling.push(calls_in(cell, 2, during) / alone);
        }
    }
    for (cell, scaling) in cells.iter().zip(scaling) {
        println!("{:<16}{:<12}{:>6.2}", cell.peer.name(), cell.case.name(), median(scaling));
    }
}

fn calls_in(cell: &Cell, threads: usize, during: Duration) -> f64 {
    let begun = Instant::now();
    let count = || {
        let mut count = 0_u32;
        while begun.elapsed() < during {
            for _ in 0..32 {
                drop(black_box(cell.call()));
            }
            count += 32;
        }
        f64::from(count)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(count)).collect();
        count() + others.into_iter().map(|other| other.join().expect("no panic")).sum::<f64>()
    })
}
