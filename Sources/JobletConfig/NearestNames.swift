/// The names a person may have meant: at most two, within two edits or a third of the word's length, nearest first.
func nearestNames(to word: String, in names: [String]) -> [String] {
  let word = Array(word.lowercased().unicodeScalars.prefix(64))
  let bound = min(max(2, word.count / 3), word.count - 1)  // two: a pair of swapped letters
  return
    names
    .map { (name: $0, edits: editDistance(word, Array($0.lowercased().unicodeScalars))) }
    .filter { $0.edits <= bound }
    .sorted { ($0.edits, $0.name) < ($1.edits, $1.name) }
    .prefix(2).map(\.name)
}

/// Levenshtein's distance, in the memory of one row.
private func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var row = Array(0...b.count)
  for (i, left) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, right) in b.enumerated() {
      let replace = diagonal + (left == right ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replace, min(diagonal, row[j]) + 1)
    }
  }
  return row[b.count]
}
