//! What the two programs promise: the vectors, the requests, and a sentence where one cannot run.

use interop_tests::{Language, node, python, vectors};
use std::{fs, path::Path};

/// How many files: of cookies, of these with what stands in the cookie, of shapes.
fn count(folder: &Path) -> [usize; 3] {
    let mut counts = [0; 3];
    for entry in fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let inner = count(&path);
            counts = std::array::from_fn(|i| counts[i] + inner[i]);
        } else if folder.ends_with("shape") {
            counts[2] += 1;
        } else if path.extension().is_some_and(|end| end == "txt") {
            let file = fs::read(&path).expect("readable");
            let head = file.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
            let head = str::from_utf8(&file[..head]).expect("UTF-8");
            counts[0] += 1;
            counts[1] += usize::from(
                head.lines().any(|line| line.starts_with("flags: ") || line.starts_with("time: ")),
            );
        }
    }
    counts
}

fn opens_and_seals_every_vector(language: &Language) {
    let output = language.vectors();
    let said = String::from_utf8_lossy(&output.stdout);
    let [vectors, sealed, shapes] = count(&vectors());
    assert!(sealed > 0 && vectors > sealed && shapes > 0);
    assert_eq!(said, format!("{vectors} vectors, {sealed} sealed, {shapes} shapes\n"));
    assert!(output.status.success(), "{}", output.status);
}

#[test]
fn node_opens_and_seals_every_vector() {
    opens_and_seals_every_vector(&node());
}

#[test]
fn python_opens_and_seals_every_vector() {
    opens_and_seals_every_vector(&python());
}

#[test]
fn what_is_no_request_is_answered_and_the_next_one_too() {
    const LINES: [&str; 8] = [
        "",
        "{",
        "[]",
        r#"{"do":"dance"}"#,
        r#"{"do":"key_id","key":"00"}"#,
        r#"{"do":"key_id","key":"zz"}"#,
        r#"{"do":"shape","tree":"u7"}"#,
        r#"{"do":"key_id","key":"00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"}"#,
    ];
    for language in [node(), python()] {
        let mut program = language.serve();
        let answers = program.ask(&LINES.map(str::to_owned));
        let (good, errors) = answers.split_last().expect("as many as lines");
        assert_eq!(good.to_string(), r#"{"id":"708fef0f"}"#);
        for (answer, line) in errors.iter().zip(LINES) {
            assert!(answer["error"].is_string(), "{line}: {answer}");
        }
        assert!(program.ends_well());
    }
}

#[test]
fn a_language_that_is_not_there_is_told_with_what_to_install() {
    for (mut language, install) in [(node(), "Node.js 18"), (python(), "requirements.txt")] {
        assert_eq!(language.is_there(), Ok(()));
        for interpreter in ["no-such-interpreter", "false"] {
            language.interpreter = interpreter.into();
            let said = language.is_there().expect_err("it cannot run it");
            assert!(said.contains(interpreter) && said.contains(install), "{said}");
        }
    }
}
