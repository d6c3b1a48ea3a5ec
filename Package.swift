// swift-tools-version: 6.2
// The rooms of Joblet and who may enter which: CONTRIBUTING.md tells the story, LayeringTests holds it.
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]

let nio: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let asn1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let signals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")

/// Programs carry the Swift runtime inside them, so that a host needs nothing but system libraries. Only their link is
/// static: tests share every object with them, and the testing library exists as a shared object alone.
let staticRuntime: [LinkerSetting] = [
  .unsafeFlags(
    ["-static-stdlib"]
      + [
        "--start-group", "-lFoundation", "-lFoundationInternationalization", "-lFoundationEssentials",
        "-l_FoundationCShims", "-l_FoundationCollections", "-l_FoundationICU", "-lCoreFoundation",
        "-lswiftSynchronization", "--end-group", "--gc-sections",
      ].flatMap { ["-Xlinker", $0] })
]

/// PID 1 of a job: no libc, no dynamic linker, nothing to read at start but its own few pages.
let freestanding = ["-ffreestanding", "-fno-stack-protector", "-fno-builtin", "-Os"]
let staticNoLibc = [
  "-nostartfiles", "-static-executable", "-Xclang-linker", "-nostdlib", "-Xclang-linker", "-static",
]

/// A library target in Sources/, held to the project's language rules.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// A program: composition only; what it composes lives in its library.
/// - Parameter link: further flags for the linker.
func program(_ name: String, _ dependencies: [Target.Dependency], link: [String] = []) -> Target {
  let flags = LinkerSetting.unsafeFlags(link.flatMap { ["-Xlinker", $0] })
  return .executableTarget(
    name: name, dependencies: dependencies + [arguments], swiftSettings: strict,
    linkerSettings: staticRuntime + (link.isEmpty ? [] : [flags]))
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

func benchmark(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: "\(name)-benchmark", dependencies: dependencies, path: "Tests/Benchmarks/\(name)", swiftSettings: strict,
    linkerSettings: staticRuntime)
}

let package = Package(
  name: "joblet",
  products: [
    .executable(name: "joblet-api", targets: ["joblet-api"]),
    .executable(name: "joblet-exec", targets: ["joblet-exec"]),
    .executable(name: "joblet-persist", targets: ["joblet-persist"]),
    .executable(name: "joblet-certs", targets: ["joblet-certs"]),
    .executable(name: "joblet-init", targets: ["joblet-init"]),
    .executable(name: "rnx", targets: ["rnx"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-http2.git", from: "1.46.0"),
    .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.35.2"),
    .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-certificates.git", from: "1.21.1"),
    .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.2"),
    // Comes with swift-certificates anyway; named because revocation lists are read with it.
    .package(url: "https://github.com/apple/swift-asn1.git", from: "1.7.4"),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
    .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
  ],
  targets: [
    // C: what no Swift may do (between clone and exec, PID 1) and headers Swift can't import.
    .target(name: "CInitABI"),
    .target(name: "CLinux"),
    .target(name: "CEvents"),
    .executableTarget(
      name: "joblet-init", dependencies: ["CInitABI"], cSettings: [.unsafeFlags(freestanding)],
      linkerSettings: [.unsafeFlags(staticNoLibc)]),
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
    .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
    .systemLibrary(name: "CIsal", pkgConfig: "libisal", providers: [.apt(["libisal-dev"])]),
    .systemLibrary(name: "CGNU"),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .target(name: "CCurlShim", dependencies: ["CCurl"]),
    // Yams brings the whole of Foundation with it, 40 MB and 6 ms of a program's start; this is the library below Yams.
    .systemLibrary(name: "CLibYAML", providers: [.apt(["libyaml-dev"])]),
    // libcrypto is there already: libcurl brings it.
    .target(name: "CCertificate", linkerSettings: [.linkedLibrary("crypto")]),

    // What everyone speaks.
    room("JobletModel"),
    room("JobletWire", ["JobletModel", nio, nioPosix, logging, lifecycle]),
    .target(
      name: "YAML", dependencies: ["CLibYAML"], swiftSettings: strict,
      linkerSettings: [.unsafeFlags(["-Xlinker", "-l:libyaml.a"])]),
    room("JobletConfig", ["JobletModel", "YAML"]),
    room("DaemonKit", ["JobletConfig", "JobletModel", "CSystemd", logging, lifecycle, signals, nio]),

    // The isolation worker.
    room("LinuxKernel", ["CLinux"]),
    room("Cgroups", ["LinuxKernel"]),
    room("Sandbox", ["JobletModel", "CInitABI", "CSeccomp"]),
    room(
      "Worker",
      [
        "Sandbox", "Cgroups", "LinuxKernel", "JobletWire", "JobletConfig", "JobletModel", "CInitABI", "CEvents",
        "DaemonKit", crypto, logging, lifecycle, nio, nioPosix,
      ]),

    // Storage.
    room("LogStore", ["JobletModel", "CGNU", "CPCRE2"]),
    room("LocalStore", ["LogStore", "JobletModel", "CIsal", "CZlib", "CGNU"]),
    room("StateStore", ["JobletModel", .product(name: "GRDB", package: "GRDB.swift")]),
    room(
      "Persist",
      [
        "LogStore", "LocalStore", "StateStore", "JobletWire", "JobletConfig", "JobletModel", "DaemonKit",
        "CIsal", "CGNU", logging, lifecycle, nio, nioPosix,
      ]),

    // The gateway.
    room(
      "Gateway",
      [
        "JobletWire", "JobletModel", "JobletConfig", "DaemonKit", "CZlib", logging, lifecycle, nio, nioPosix, x509,
        asn1,
        crypto,
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTP2", package: "swift-nio-http2"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypesHTTP2", package: "swift-nio-extras"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ]),
    room("Certificates", ["JobletModel", "JobletConfig", "YAML", x509, asn1, crypto]),

    // The client.
    room("HTTPClient", ["CCurl", "CCurlShim"]),
    room("JobletClient", ["JobletModel", "HTTPClient"]),
    room("RnxCommands", ["JobletClient", "HTTPClient", "JobletModel", "YAML", "CCertificate", arguments]),

    // The programs.
    program("joblet-api", ["Gateway", "DaemonKit", "JobletConfig", "JobletModel", lifecycle]),
    program("joblet-exec", ["Worker", "DaemonKit", "JobletConfig", "JobletModel"]),
    program("joblet-persist", ["Persist", "DaemonKit", "JobletConfig", "JobletModel"]),
    program("joblet-certs", ["Certificates", "JobletConfig", "JobletModel"]),
    // Copied from machine to machine: without symbols it is half as large.
    program("rnx", ["RnxCommands"], link: ["--strip-all"]),

    // Tests: a suite a room; SystemTests drive the installed services.
    tests("LayeringTests", []),
    tests("JobletModelTests", ["JobletModel"]),
    tests(
      "JobletWireTests",
      ["JobletWire", "JobletModel", nio, .product(name: "NIOEmbedded", package: "swift-nio"), logging]),
    tests("JobletConfigTests", ["JobletConfig", "YAML"]),
    tests("DaemonKitTests", ["DaemonKit", "JobletConfig", "JobletModel", logging]),
    tests("LinuxKernelTests", ["LinuxKernel", "Cgroups"]),
    tests("SandboxTests", ["Sandbox", "JobletModel", "CInitABI", "CSeccomp", "Cgroups", "LinuxKernel"]),
    tests(
      "WorkerTests",
      [
        "Worker", "Sandbox", "Cgroups", "DaemonKit", "JobletConfig", "JobletModel", "JobletWire", "CInitABI",
        "LinuxKernel", nio, logging,
      ]),
    tests("StorageConformance", ["LogStore", "LocalStore", "StateStore", "JobletModel", "CZlib"]),
    tests(
      "PersistTests",
      ["Persist", "LocalStore", "LogStore", "StateStore", "JobletWire", "JobletConfig", "JobletModel", logging, nio]),
    tests(
      "GatewayTests",
      [
        "Gateway", "Worker", "Persist", "DaemonKit", "JobletModel", "JobletWire", "JobletConfig", "Certificates",
        "HTTPClient", logging, lifecycle, nio, nioPosix, x509, "YAML", "CZlib",
        .product(name: "NIOSSL", package: "swift-nio-ssl"), .product(name: "NIOEmbedded", package: "swift-nio"),
      ]),
    tests("CertificatesTests", ["Certificates", "JobletModel", x509]),
    tests("ClientTests", ["HTTPClient", "JobletClient", "RnxCommands", "JobletModel", "Certificates", arguments]),
    tests("SystemTests", []),
    // What SystemTests run as hostile jobs; they find it beside the test program.
    .target(name: "CEscape", path: "Tests/CEscape"),
    .executableTarget(
      name: "escape-payload", dependencies: ["CEscape"], path: "Tests/escape-payload", swiftSettings: strict,
      linkerSettings: staticRuntime),

    // Benchmarks: a program a figure; `contrib/bench` builds and runs them.
    .target(
      name: "CBenchmark", dependencies: ["CCurl"], path: "Tests/Benchmarks/CBenchmark",
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(
      name: "BenchmarkKit", dependencies: ["CBenchmark"], path: "Tests/Benchmarks/BenchmarkKit", swiftSettings: strict),
    benchmark("isolation", ["BenchmarkKit", "CBenchmark", "Sandbox", "CSeccomp"]),
    benchmark("gateway", ["BenchmarkKit", "CBenchmark"]),
    benchmark("ingest", ["BenchmarkKit"]),
    benchmark("stalled", ["BenchmarkKit"]),
    benchmark("persist", ["BenchmarkKit", "JobletWire", "JobletModel"]),
    benchmark("records", ["BenchmarkKit", "StateStore", "JobletModel"]),
  ]
)
