import ArgumentParser

/// What the parser of arguments refuses, in the three parts of every error.
package enum UsageFailure {
  package static func failure(_ error: any Error) -> Failure {
    let why = Rnx.message(for: error)
    // The parser alone knows the verb; its whole message ends with: See 'rnx job run --help' for more information.
    let verb = Rnx.fullMessage(for: error, columns: 1000).split(separator: "\n").last.flatMap { line -> String? in
      let parts = line.split(separator: "'")
      return parts.count > 2 && parts[1].hasPrefix("rnx") && parts[1].hasSuffix(" --help") ? String(parts[1]) : nil
    }
    let help = verb ?? "rnx --help"
    let name = help.dropLast(" --help".count)
    return Failure("'\(name)' can't be done as it is written", why: why, next: "'\(help)' tells what is allowed")
  }
}
