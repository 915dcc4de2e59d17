# Heat map of ranks: columns are matrices, rows are layers. Column, layer, rank, text, text colour.
set border 0
set grid noxtics noytics
set xrange [0.5:NSITES+0.5]
set yrange [-0.5:NLAYERS-0.5]
set xtics (SITE[1] 1)
set for [i=2:NSITES] xtics add (SITE[i] i)
set xtics scale 0 textcolor rgb INK
if (WIDEST * NSITES * 11 > 480) set xtics rotate by 30 right
set ytics scale 0 textcolor rgb INK
set ytics 0, (NLAYERS > 16 ? 4 : 1)
set ylabel 'Layer' textcolor rgb INK
set cbrange [0:HIGH]
set cblabel 'Rank' textcolor rgb INK
set cbtics textcolor rgb INK
set colorbox noborder
set palette defined (0 '#eef4f9', 0.35 '#9ecae1', 0.7 '#2f7fb8', 1 '#08306b')
set style fill solid 1.0 noborder
TEXT(s) = NUMBERS ? s : ''
plot DATA using 1:2:($1-0.48):($1+0.48):($2-0.47):($2+0.47):3 with boxxyerror fillcolor palette notitle, \
     DATA using 1:2:(TEXT(strcol(4))):5 with labels textcolor rgb variable notitle
