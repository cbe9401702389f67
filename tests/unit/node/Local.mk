# unit/node
