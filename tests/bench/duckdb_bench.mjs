// DuckDB's side of `make bench BENCH=scan`. Usage: node duckdb_bench.mjs MODULES CSV FOLDER plain|enum
// Loads the table into a file in the clear, then asks with one thread and a warm buffer pool; CPU time of this process.
// Output as of scan_bench.
import { createRequire } from 'node:module'
import { existsSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import path from 'node:path'

const [modules, csv, folder, kind] = process.argv.slice(2)
const require = createRequire(path.join(path.resolve(modules), 'index.js'))
const api = await import(pathToFileURL(require.resolve('@duckdb/node-api')))
const { DuckDBInstance } = api.DuckDBInstance ? api : api.default

const file = path.join(folder, `bench-${kind}.duckdb`)
const fresh = !existsSync(file)
const instance = await DuckDBInstance.create(file)
const connection = await instance.connect()
await connection.run('SET threads = 1')
const text = csv.replaceAll("'", "''")
if (fresh) {
  if (kind === 'enum') {
    for (const column of ['sex', 'site', 'diagnosis']) {
      await connection.run(`CREATE TYPE ${column}_t AS ENUM (SELECT DISTINCT ${column} FROM read_csv('${text}') ORDER BY 1)`)
    }
    await connection.run(`CREATE TABLE patients AS SELECT patient_id::UINTEGER AS patient_id, age::UTINYINT AS age,
      sex::sex_t AS sex, site::site_t AS site, diagnosis::diagnosis_t AS diagnosis, admit_date, los_days::UTINYINT AS los_days,
      cost::DECIMAL(12,2) AS cost FROM read_csv('${text}')`)
  } else {
    await connection.run(`CREATE TABLE patients AS SELECT * FROM read_csv('${text}')`)
  }
  await connection.run('CHECKPOINT')
}
const version = (await (await connection.run('SELECT version()')).getRows())[0][0]
console.log(`version\t${version}`)
console.log(`size\t${statSync(csv).size}\t${statSync(file).size}`)

// The timed text, and what is compared cell by cell.
const questions = {
  Q1: ['SELECT count(*) FROM patients', 'SELECT count(*), 0 FROM patients'],
  Q2: ["SELECT avg(age) FROM patients WHERE diagnosis='E11.9'", "SELECT count(*), avg(age) FROM patients WHERE diagnosis='E11.9'"],
  Q3: ['SELECT sex, site, count(*), avg(cost) FROM patients GROUP BY sex, site ORDER BY sex, site'],
  Q4: ['SELECT count(*) FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7',
    'SELECT count(*), 0 FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7'],
  Q5: ['SELECT diagnosis, count(*) AS n FROM patients GROUP BY diagnosis', 'SELECT diagnosis, count(*), 0 FROM patients GROUP BY diagnosis'],
}
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1000 }
for (const [name, [sql, full]] of Object.entries(questions)) {
  const spent = []
  for (let i = -2; i < 9; i++) {
    const start = cpu()
    await (await connection.run(sql)).getRows()
    if (i >= 0) spent.push(cpu() - start)
  }
  spent.sort((a, b) => a - b)
  console.log(`time\t${name}\t${spent[0].toFixed(3)}\t${spent[4].toFixed(3)}`)
  for (const row of await (await connection.run(full ?? sql)).getRows()) {
    console.log(`cell\t${name}\t${row.map(v => String(v)).join('\t')}`)
  }
}
