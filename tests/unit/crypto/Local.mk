# unit/crypto
