//! Exit codes: 0 success, 2 wrong usage or configuration, 130 stopped by Ctrl-C, 1 any other error.

use medst_data::printable;
use medst_model::Error;

use crate::launch;

/// Prints an error with its causes and chooses the exit code.
pub fn code(result: anyhow::Result<()>) -> u8 {
    let Err(error) = result else { return 0 };
    let code = error.chain().find_map(|cause| {
        let ours = cause.downcast_ref::<Error>().map(of_library);
        let served = || cause.downcast_ref::<medst_serve::Error>().map(of_service);
        ours.or_else(|| cause.downcast_ref::<medst_data::Error>().map(of_data)).or_else(served)
    });
    // A closed pipe (`medst inspect … | head`) is not an error.
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        return 0;
    }
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    let text = printable::message(&text);
    let code = code.unwrap_or(1);
    match launch::process_name() {
        None => eprintln!("medst: {text}"),
        Some(process) => eprintln!("medst: {process}: {text}"),
    }
    // On a stop request, all processes stop together. The others do not notice any other error of
    // this process, so they are ended.
    if code != 130 {
        launch::end_all(code);
    }
    code
}

fn of_library(error: &Error) -> u8 {
    match error {
        Error::Config(_) | Error::Input(_) => 2,
        Error::Stopped => 130,
        Error::Data(error) => of_data(error),
        _ => 1,
    }
}

fn of_service(error: &medst_serve::Error) -> u8 {
    match error {
        medst_serve::Error::Config(_) => 2,
        _ => 1,
    }
}

fn of_data(error: &medst_data::Error) -> u8 {
    match error {
        medst_data::Error::Usage(_) => 2,
        medst_data::Error::Stopped => 130,
        _ => 1,
    }
}
