//! The owner's wallet program as tests play it: signs and opens with a key that everybody knows, or behaves badly as
//! `FAKE_RW` says. In no image.

use std::process::ExitCode;

use orama_wallet::{SecretKey, open, sealed_from_text};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mood = std::env::var("FAKE_RW").unwrap_or_default();
    let secret = if mood == "another" { [0x22; 32] } else { [0x11; 32] };
    let key = SecretKey::from_bytes(&secret).expect("a secret key");
    if mood == "refuses" {
        eprintln!("the owner said no");
        return ExitCode::FAILURE;
    }
    if mood == "rambles" {
        println!("{}", "x".repeat(5000));
        return ExitCode::SUCCESS;
    }
    match arguments[..] {
        ["sign", text, "--chain", "evm"] => println!("Signature: 0x{}", key.sign(text)),
        ["decrypt", text, "--purpose", "genesis-luks", "--chain", "evm"] => {
            let opened = sealed_from_text(text).ok().and_then(|sealed| open(&key, &sealed).ok());
            match opened.as_deref().map(|opened| std::str::from_utf8(opened)) {
                Some(Ok(text)) => println!("{text}"),
                _ => return ExitCode::FAILURE,
            }
        }
        _ => {
            eprintln!("usage: rw sign TEXT --chain evm, rw decrypt TEXT --purpose genesis-luks --chain evm");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
