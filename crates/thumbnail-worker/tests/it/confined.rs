//! What decoders, and ffmpeg in their place, can do beside their work: nothing.

use std::path::PathBuf;

use thumbnail_worker::decode_pool::{DecodePool, Settings};
use thumbnail_worker::videos::Missing;

use crate::cluster::{by_ffmpeg, decoders};
use crate::overload::decoders_of;
use crate::paint::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_has_nothing_but_its_work() {
    let settings = Settings { bytes: 306 << 20, ..decoders() };
    let pool = DecodePool::new(settings.clone());
    // It tried to open a file, to connect and to start a program, and looked for what it was left.
    assert_eq!(pool.missing_confinement().await.unwrap(), Vec::<&str>::new());
    let pid = decoders_of(&settings)[0];
    // As the kernel says it.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(nice(&pid.to_string()), (nice("self") + 5).min(19));
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    assert!(std::env::vars_os().count() > 3, "there is something to inherit");
    let files: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    let kind = |file: &PathBuf| {
        let name = file.to_string_lossy();
        name == "/dev/null" || name.starts_with("socket:")
    };
    assert!(files.len() == 4 && files.iter().all(kind), "{files:?}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for (name, unlimited) in [("Max data size", true), ("Max address space", true), ("Max core file size", false)] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(!line.contains("unlimited") && (unlimited || line.contains(" 0 ")), "{line}");
    }
}

/// How much a process yields to others: the nineteenth field, of which the name, the second, may have blanks.
fn nice(process: &str) -> i32 {
    let fields = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    fields.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
}

/// A program in the place of ffmpeg that says what it could do, and fails.
async fn try_as_ffmpeg(script: &str) -> String {
    let folder = std::env::temp_dir().join(format!("rushes-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("ffmpeg");
    std::fs::write(&program, format!("#!/bin/sh\nsaid=\"it could:\"\n{script}\necho \"$said .\" >&2\nexit 1\n"))
        .unwrap();
    let mut rights = std::fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    std::fs::set_permissions(&program, rights).unwrap();
    let missing = by_ffmpeg(Some(program), &fixture("vp9.webm"), Missing::NotAVideo).await.unwrap_err();
    std::fs::remove_dir_all(&folder).unwrap();
    missing.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_has_nothing_but_the_file_that_it_reads() {
    let secret = std::env::temp_dir().join(format!("rushes-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&secret, "a").unwrap();
    let path = secret.display();
    let said = try_as_ffmpeg(&format!(
        "cat /proc/self/fd/0 > /dev/null 2>&1 && said=\"$said read its input\"\n\
         cat {path} > /dev/null 2>&1 && said=\"$said read another file\"\n\
         (echo x > {path}) 2>/dev/null && said=\"$said write a file\"\n\
         (echo x > {path}-new) 2>/dev/null && said=\"$said make a file\"\n\
         cat /proc/1/environ > /dev/null 2>&1 && said=\"$said read another process\"\n\
         test $(nice) -ge 5 || said=\"$said run before others\""
    ))
    .await;
    std::fs::remove_file(&secret).unwrap();
    assert!(said.ends_with("it could: read its input ."), "{said}");
    assert!(!std::fs::exists(format!("{path}-new")).unwrap());
}
