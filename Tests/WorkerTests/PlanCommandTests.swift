import Foundation
import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Testing
import Worker

@Suite struct PlanCommandTests {
  private func document(
    _ spec: String, _ change: (inout Configuration) -> Void = { _ in }, abi: Result<Int, Errno> = .success(7)
  ) throws -> PlanDocument {
    var configuration = Configuration()
    change(&configuration)
    return try PlanDocument(spec: Array(spec.utf8), configuration: configuration, landlockABI: abi)
  }

  @Test func secretsAreMasked() throws {
    let made = try document(#"{"command":"sh","args":["-c","x"],"secret_env":{"KEY":"hush-hush"},"env":{"A":"b"}}"#)
    for text in [made.text, try made.json()] {
      #expect(!text.contains("hush-hush") && text.contains("KEY=***") && text.contains("A=b"))
    }
  }

  @Test func everyStepSaysWhatItRestsOnAndWhatBreaks() throws {
    let made = try document(#"{"command":"true","timeout":"5s"}"#)
    #expect(made.steps.map(\.number) == Array(1...made.steps.count))
    for step in made.steps { #expect(!step.source.isEmpty && !step.breaks.isEmpty && !step.step.isEmpty) }
    let exec = try #require(made.steps.first { $0.step == "exec" })
    #expect(exec.details == ["true"])
    // What the plan test holds of the order holds of what is printed.
    #expect(made.text.contains("pivot_root(2)") && made.text.contains("landlock_restrict_self(2)"))
  }

  @Test func limitsStandBeforeTheGo() throws {
    let made = try document(#"{"command":"true","limits":{"memory_mb":64,"cpu_cores":"0-1"}}"#)
    let limits = try #require(made.steps.firstIndex { $0.details.contains("memory_mb 64") })
    let go = try #require(made.steps.firstIndex { $0.step.contains("go") && $0.by == "joblet-exec" })
    #expect(made.steps[limits].details.contains("cpu_cores 0-1") && limits < go)
    #expect(made.steps.last?.step == "exec" && go < made.steps.count - 1)
  }

  @Test func jsonIsJSON() throws {
    let made = try document(#"{"command":"true","seccomp":"strict"}"#)
    let read = try JSONSerialization.jsonObject(with: Data(made.json().utf8)) as? [String: Any]
    #expect((read?["steps"] as? [Any])?.count == made.steps.count)
    #expect((read?["request"] as? [String: Any])?["seccomp"] as? String == "strict")
    #expect(read?["landlock"] as? Int == 7)
  }

  @Test(arguments: [
    ("{", "not a body"), ("[]", "not a body"), (#"{"command":"a","comand":"b"}"#, "comand: unknown field"),
    (#"{"args":[]}"#, "command: is missing"), (#"{"command":1}"#, "command: must be"),
    (#"{"command":""}"#, "command: must not be empty"), (#"{"command":"a","seccomp":"compat"}"#, "allows more"),
    (#"{"command":"a","seccomp":"none"}"#, "none"),
  ])
  func aWrongRequestIsRefusedWithAReason(_ spec: String, _ reason: String) {
    let error = #expect(throws: SetupError.self) { try document(spec) }
    #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
  }

  @Test func controlCharactersDoNotReachTheTerminal() throws {
    let made = try document(#"{"command":"a","args":["\u001b[2J\n7. forged"]}"#)
    #expect(!made.text.contains("\u{1B}") && !made.text.contains("\n7. forged"))
  }

  @Test func aKernelWithoutLandlockIsSaid() throws {
    let missing: Result<Int, Errno> = .failure(Errno(ENOSYS, "x"))
    #expect(try document(#"{"command":"a"}"#, abi: missing).landlock == nil)
    #expect(throws: SetupError.self) {
      try document(#"{"command":"a"}"#, { $0.isolation.landlock = "required" }, abi: missing)
    }
  }
}
