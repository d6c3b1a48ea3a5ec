import ArgumentParser
import FoundationEssentials
import JobletModel

/// A page of the manual in man(7)'s macros, made of what the parser of arguments knows of a verb.
package struct ManualPage: Sendable {
  /// `rnx-job-run.1`
  package var file: String
  package var text: String

  /// Every page: one for rnx, one for each group and verb.
  package static func all() throws -> [ManualPage] {
    let tool = try JSONDecoder().decode(Tool.self, from: Data(Rnx._dumpHelp().utf8))
    return pages(tool.command, above: [])
  }

  // MARK: What the parser tells (its ToolInfo, version 0)

  private struct Tool: Decodable { var command: Command }

  private struct Command: Decodable {
    var commandName: String
    var shouldDisplay: Bool?
    var abstract: String?
    var discussion: String?
    var subcommands: [Command]?
    var arguments: [Argument]?

    var shown: [Command] { (subcommands ?? []).filter { $0.shouldDisplay != false && $0.commandName != "help" } }
  }

  private struct Argument: Decodable {
    struct Name: Decodable {
      var kind: String
      var name: String
      var text: String { (kind == "long" ? "--" : "-") + name }
    }

    var kind: String
    var shouldDisplay: Bool
    var isOptional: Bool
    var isRepeating: Bool
    var names: [Name]?
    var valueName: String?
    var defaultValue: String?
    var abstract: String?
    var discussion: String?
  }

  // MARK: Pages

  private static func pages(_ command: Command, above: [String]) -> [ManualPage] {
    let path = above + [command.commandName]
    let own = ManualPage(file: path.joined(separator: "-") + ".1", text: text(command, path))
    return [own] + command.shown.flatMap { pages($0, above: path) }
  }

  private static func text(_ command: Command, _ path: [String]) -> String {
    let name = path.joined(separator: "-")
    var page = ".TH \"\(escaped(name.uppercased()))\" \"1\" \"\" \"Joblet \(jobletVersion)\" \"Joblet\"\n"
    page += ".SH NAME\n\(escaped(name)) \\- \(escaped(sentence(command.abstract)))\n"
    page += ".SH SYNOPSIS\n.B \(escaped(path.joined(separator: " ")))\n\(escaped(synopsis(command)))\n"
    if let discussion = command.discussion { page += ".SH DESCRIPTION\n\(prose(discussion))" }
    let arguments = (command.arguments ?? []).filter(\.shouldDisplay)
    page += section("ARGUMENTS", arguments.filter { $0.kind == "positional" })
    page += section("OPTIONS", arguments.filter { $0.kind != "positional" })
    if !command.shown.isEmpty {
      page += ".SH COMMANDS\n"
      for verb in command.shown {
        page += ".TP\n.BR \(escaped((path + [verb.commandName]).joined(separator: "-"))) (1)\n"
        page += "\(escaped(verb.abstract ?? ""))\n"
      }
    }
    page += exitStatus + files
    if path.count > 1 { page += ".SH SEE ALSO\n.BR \(escaped(path.dropLast().joined(separator: "-"))) (1)\n" }
    return page
  }

  private static func synopsis(_ command: Command) -> String {
    if !command.shown.isEmpty { return "COMMAND [OPTIONS]" }
    var words = ["[OPTIONS]"]
    for argument in command.arguments ?? [] where argument.kind == "positional" && argument.shouldDisplay {
      let name = (argument.valueName ?? "value").uppercased() + (argument.isRepeating ? " ..." : "")
      words.append(argument.isOptional && argument.valueName != "command" ? "[\(name)]" : name)
    }
    return words.joined(separator: " ")
  }

  private static func section(_ title: String, _ arguments: [Argument]) -> String {
    guard !arguments.isEmpty else { return "" }
    var text = ".SH \(title)\n"
    for argument in arguments {
      var head = (argument.names ?? []).map(\.text).joined(separator: ", ")
      if argument.kind == "positional" {
        head = (argument.valueName ?? "value").uppercased()
      } else if argument.kind == "option" {
        head += " <\(argument.valueName ?? "value")>"
      }
      text += ".TP\n.B \(escaped(head))\n\(escaped(argument.abstract ?? ""))\n"
      if let value = argument.defaultValue, !value.isEmpty { text += "Default: \(escaped(value)).\n" }
      if let more = argument.discussion { text += prose(more, isInList: true) }
    }
    return text
  }

  private static let exitStatus = """
    .SH EXIT STATUS
    0 if all went well, and 125 for a failure of rnx itself, told of on stderr in three parts: what, why, and what to do next.
    .B rnx job run \\-\\-follow
    and
    .B rnx job wait
    exit as the job did: with its exit code, with 128 and the number of the signal that ended it, 124 after a time-out,
    127 for a command that is not there and 126 for one that can't be run. 130 after Ctrl\\-C.

    """

  private static let files = """
    .SH FILES
    The first of these that is there is the configuration:
    .IR ./rnx\\-config.yml ,
    .IR ./config/rnx\\-config.yml ,
    .IR ~/.rnx/rnx\\-config.yml ,
    .IR /etc/joblet/rnx\\-config.yml ,
    .IR /opt/joblet/config/rnx\\-config.yml .
    .SH ENVIRONMENT
    .TP
    .B NO_COLOR
    If it is set and not empty, nothing is coloured.

    """

  /// Paragraphs; what is indented stands as it is.
  private static func prose(_ text: String, isInList: Bool = false) -> String {
    var out = ""
    var isExample = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let wantsExample = line.hasPrefix("  ") || (isExample && line.isEmpty)
      if wantsExample != isExample { out += wantsExample ? ".RS 2\n.nf\n" : ".fi\n.RE\n" }
      isExample = wantsExample
      if line.isEmpty {
        out += isExample ? "\n" : isInList ? ".IP\n" : ".PP\n"
      } else {
        out += escaped(line.drop { $0 == " " }) + "\n"
      }
    }
    return out + (isExample ? ".fi\n.RE\n" : "")
  }

  private static func sentence(_ text: String?) -> String {
    let text = text ?? ""
    return text.hasSuffix(".") ? String(text.dropLast()) : text
  }

  /// No character of the text means anything to troff.
  package static func escaped(_ text: some StringProtocol) -> String {
    var out = ""
    for character in text {
      switch character {
      case "\\": out += "\\e"
      case "-": out += "\\-"
      case "'": out += "\\(aq"
      case "\"": out += "\\(dq"
      case "`": out += "\\(ga"
      case "^": out += "\\(ha"
      case "~": out += "\\(ti"
      case _ where character.isASCII: out.append(character)
      default: for scalar in character.unicodeScalars { out += "\\[u\(hexadecimal(scalar.value))]" }
      }
    }
    return out.hasPrefix(".") ? "\\&" + out : out
  }

  /// groff(7) wants four digits at least.
  private static func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }
}
