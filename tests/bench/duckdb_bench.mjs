// DuckDB's side of `make bench BENCH=scan` and BENCH=import, with one thread but for `size`; CPU time of this process.
//   node duckdb_bench.mjs MODULES warm   CSV FOLDER plain|enum      loads a file in the clear, asks with a warm buffer pool
//                                 size   CSV FOLDER                 size of the file that default settings make
//                                 import CSV FOLDER                 CPU ms of CREATE TABLE AS SELECT FROM read_csv
//                                 make   CSV FOLDER encrypted       a file sealed with AES-256-GCM
//                                 cold   CSV FOLDER encrypted Q     one question, from opening that file
// Output as of scan_bench.
import { createRequire } from 'node:module'
import { rmSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import path from 'node:path'

const [modules, command, csv, folder, kind, question] = process.argv.slice(2)
const require = createRequire(path.join(path.resolve(modules), 'index.js'))
const loaded = await import(pathToFileURL(require.resolve('@duckdb/node-api')))
const { DuckDBInstance } = loaded.DuckDBInstance ? loaded : loaded.default
const quote = text => `'${text.replaceAll("'", "''")}'`
const source = `read_csv(${quote(csv)})`
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1000 }

// The timed text, and what is compared cell by cell.
const questions = {
  Q1: ['SELECT count(*) FROM patients', 'SELECT count(*), 0 FROM patients'],
  Q2: ["SELECT avg(age) FROM patients WHERE diagnosis='E11.9'", "SELECT count(*), avg(age) FROM patients WHERE diagnosis='E11.9'"],
  Q3: ['SELECT sex, site, count(*), avg(cost) FROM patients GROUP BY sex, site ORDER BY sex, site'],
  Q4: ['SELECT count(*) FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7',
    'SELECT count(*), 0 FROM patients WHERE age BETWEEN 50 AND 60 AND los_days > 7'],
  Q5: ['SELECT diagnosis, count(*) AS n FROM patients GROUP BY diagnosis', 'SELECT diagnosis, count(*), 0 FROM patients GROUP BY diagnosis'],
}

async function open(file, threads) {
  const instance = await DuckDBInstance.create(kind === 'encrypted' ? ':memory:' : file)
  const connection = await instance.connect()
  if (threads) await connection.run(`SET threads = ${threads}`)
  if (kind === 'encrypted') {
    // Its OpenSSL comes with an extension that is fetched from its makers; the library built in writes when told to, with weaker nonces.
    await connection.run("SET force_mbedtls_unsafe = 'true'")
    await connection.run(`ATTACH ${quote(file)} AS sealed (ENCRYPTION_KEY 'bench')`)
    await connection.run('USE sealed')
  }
  return { instance, connection, close() { connection.closeSync(); instance.closeSync() } }
}

async function create(connection) {
  if (kind !== 'enum') {
    await connection.run(`CREATE TABLE patients AS SELECT * FROM ${source}`)
    return
  }
  for (const column of ['sex', 'site', 'diagnosis']) {
    await connection.run(`CREATE TYPE ${column}_t AS ENUM (SELECT DISTINCT ${column} FROM ${source} ORDER BY 1)`)
  }
  await connection.run(`CREATE TABLE patients AS SELECT patient_id::UINTEGER AS patient_id, age::UTINYINT AS age,
    sex::sex_t AS sex, site::site_t AS site, diagnosis::diagnosis_t AS diagnosis, admit_date, los_days::UTINYINT AS los_days,
    cost::DECIMAL(12,2) AS cost FROM ${source}`)
}

function fresh(name) {
  const file = path.join(folder, name)
  for (const end of ['', '.wal']) rmSync(file + end, { force: true })
  return file
}

async function ask(connection) {
  for (const [name, [sql, full]] of Object.entries(questions)) {
    const spent = []
    for (let i = -2; i < 15; i++) {
      const start = cpu()
      await (await connection.run(sql)).getRows()
      if (i >= 0) spent.push(cpu() - start)
    }
    spent.sort((a, b) => a - b)
    console.log(`time\t${name}\t${spent[0].toFixed(3)}\t${spent[7].toFixed(3)}`)
    for (const row of await (await connection.run(full ?? sql)).getRows()) {
      console.log(`cell\t${name}\t${row.map(v => String(v)).join('\t')}`)
    }
  }
}

const commands = {
  async warm() {
    const file = fresh(`bench-${kind}.duckdb`)
    const db = await open(file, 1)
    await create(db.connection)
    await db.connection.run('CHECKPOINT')
    console.log(`version\t${(await (await db.connection.run('SELECT version()')).getRows())[0][0]}`)
    console.log(`size\t0\t${statSync(file).size}`)
    await ask(db.connection)
  },
  async size() {
    const file = fresh('bench-default.duckdb')
    const db = await open(file, 0)
    await create(db.connection)
    db.close()
    console.log(`size\t0\t${statSync(file).size}`)
    fresh('bench-default.duckdb')
  },
  async import() {
    const db = await open(fresh('bench-import.duckdb'), 1)
    const start = cpu()
    await create(db.connection)
    await db.connection.run('CHECKPOINT')
    console.log(`import\t${(cpu() - start).toFixed(0)}`)
    db.close()
    fresh('bench-import.duckdb')
  },
  async make() {
    const file = fresh('bench-encrypted.duckdb')
    const db = await open(file, 1)
    await create(db.connection)
    await db.connection.run('CHECKPOINT')
    console.log(`size\t0\t${statSync(file).size}`)
    db.close()
  },
  async cold() {
    const start = cpu()
    const began = performance.now()
    const db = await open(path.join(folder, 'bench-encrypted.duckdb'), 1)
    await (await db.connection.run(questions[question][0])).getRows()
    console.log(`time\t${question}\t${(cpu() - start).toFixed(3)}\nwall\t${question}\t${(performance.now() - began).toFixed(3)}`)
  },
}
await commands[command]()
